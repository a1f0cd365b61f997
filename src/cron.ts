export async function runCron(_controller: ScheduledController, _env: Env): Promise<void> {}
