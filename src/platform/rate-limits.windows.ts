/** What is asked of one sliding window. */
export interface Ask {
  key: string;
  count: number;
  windowSeconds: number;
  tokens: number;
}

/** One window as it is after the answer. */
export interface Window {
  /** Tokens in it, those included that were just taken. */
  used: number;
  /** Until the same ask could be allowed; 0 when this window did allow it. */
  waitSeconds: number;
  /** Until the oldest token leaves. */
  resetSeconds: number;
}

/** The answer to several asks at once: all of them were taken, or none. */
export interface Verdict {
  allowed: boolean;
  windows: Window[];
  /** Puts back what was allowed, when somebody else refused. */
  giveBack(): void;
}
