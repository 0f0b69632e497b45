const problems: string[] = [];

export function problem(text: string): void {
  problems.push(text);
}

/** Tells draw.py that the page is drawn, and what went wrong on the way. */
export function report(): void {
  void fetch('report', { method: 'POST', body: JSON.stringify({ problems }) });
}
