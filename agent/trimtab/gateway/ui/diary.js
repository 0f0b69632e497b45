// What happened, newest first: the gateway's own events about servers, and what this page saw change from one answer to the next.

const KEPT = 60;
const JOINED_MS = 10000; // repeated fallbacks for one reason are one line that counts up

export const REASONS = {
  error: "the policy raised an error",
  invalid: "the policy chose an impossible server or computed no number",
  slow: "the decision came late",
  resting: "the policy rests after late decisions",
  missing: "there is no model yet",
  far: "the view was far outside what the policy was trained on",
};

export class Diary {
  #own = [];
  #before = null;

  note(atMs, server, what, reason = null) {
    this.#own.unshift({ atMs, server, what, reason, times: 1 });
    this.#own.length = Math.min(this.#own.length, KEPT);
  }

  watch(nowMs, state) {
    const before = this.#before;
    this.#before = { draining: state.draining, panic: state.panic, decider: state.decider, canary: state.canary?.state, shadow: state.shadow?.state, uptime: state.uptime_s };
    if (before === null) return;
    if (state.uptime_s < before.uptime) {
      this.note(nowMs, "", "the gateway was started anew");
      return;
    }
    if (state.draining && !before.draining) this.note(nowMs, "", "draining began");
    if (state.panic !== before.panic) this.note(nowMs, "", state.panic ? "panic: all servers are offered" : "panic is over");
    if (state.decider.state !== before.decider.state) this.note(nowMs, "", `the decider is now: ${state.decider.state}`);
    this.#candidate(nowMs, "canary", state.canary?.state, before.canary);
    this.#candidate(nowMs, "shadow", state.shadow?.state, before.shadow);
    for (const [reason, times] of Object.entries(state.decider.reasons)) this.#fell(nowMs, reason, times - (before.decider.reasons[reason] ?? 0));
  }

  #candidate(nowMs, role, now, before) {
    if (now && before && now !== before && now !== "stopped") this.note(nowMs, "", `the ${role} is now: ${now}`); // the gateway says why it stopped
  }

  #fell(nowMs, reason, times) {
    if (times <= 0) return;
    const same = this.#own.find((one) => one.reason === reason && nowMs - one.atMs < JOINED_MS);
    if (same) {
      same.times += times;
      same.atMs = nowMs;
    } else {
      this.note(nowMs, "", REASONS[reason] ?? reason, reason);
      this.#own[0].times = times;
    }
  }

  events(nowMs, state) {
    const theirs = (state?.events ?? []).map((one) => ({ atMs: nowMs - 1000 * one.age_s, server: one.server ?? "", what: one.what, times: 1 }));
    return [...this.#own, ...theirs].sort((a, b) => b.atMs - a.atMs).slice(0, KEPT);
  }
}
