/** Business hours in the time zone of the business. */
import { DAYS } from "./schema";

type Day = (typeof DAYS)[number];

/** `09:00` to `17:00`; one that ends before it begins goes on past midnight. */
export interface OpenTime {
  days: Day[];
  from: string;
  to: string;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Whether the runtime knows a time zone (IANA, such as Europe/Berlin). */
export function isTimeZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: zone });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** Whether the business is open at `at` (ms). Daylight saving is the time zone's. */
export function isOpen(at: number, zone: string, hours: readonly OpenTime[]): boolean {
  const { day, minute } = localTime(at, zone);
  const before = (day + 6) % 7;
  return hours.some(({ days, from, to }) => {
    const opens = minutes(from);
    const closes = minutes(to);
    const on = (index: number) => days.includes(DAYS[index] ?? "mon");
    if (opens < closes) return on(day) && minute >= opens && minute < closes;
    return (on(day) && minute >= opens) || (on(before) && minute < closes);
  });
}

/** Day of the week (0 is Monday) and minute of the day there. */
function localTime(at: number, zone: string): { day: number; minute: number } {
  const format =
    formats.get(zone) ??
    new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      weekday: "short",
      hour: "2-digit",
      minute: "2-digit",
      hourCycle: "h23",
    });
  formats.set(zone, format);
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]));
  const weekday = parts.weekday?.toLowerCase() ?? "";
  const day = DAYS.findIndex((name) => weekday.startsWith(name));
  return { day, minute: Number(parts.hour) * 60 + Number(parts.minute) };
}

function minutes(time: string): number {
  const [hour, minute] = time.split(":");
  return Number(hour) * 60 + Number(minute);
}
