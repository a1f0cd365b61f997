/**
 * Digits under which the same person may also be known. WhatsApp ids of Brazil, Mexico and Argentina differ from the
 * number people dial: Brazil's ninth digit, Mexico's 1 after 52, Argentina's 9 after 54 (contract 1). In Brazil only
 * what began with 6 to 9 was a mobile before the ninth digit came: 2 to 5 is somebody's landline.
 */
export function numberVariants(digits: string): string[] {
  const brazil = /^55(\d{2})(9?)([6-9]\d{7})$/.exec(digits);
  if (brazil) return [`55${brazil[1]}9${brazil[3]}`, `55${brazil[1]}${brazil[3]}`];
  const mexico = /^52(1?)(\d{10})$/.exec(digits);
  if (mexico) return [`52${mexico[2]}`, `521${mexico[2]}`];
  const argentina = /^54(9?)(\d{10})$/.exec(digits);
  if (argentina) return [`54${argentina[2]}`, `549${argentina[2]}`];
  return [digits];
}
