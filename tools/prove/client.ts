import http from 'node:http';
import https from 'node:https';

/** What came back for one request. `status` 0: the connection failed, and nobody knows whether the request had an effect. */
export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  /** The parsed body; undefined where it is no JSON. */
  body: unknown;
  /** Milliseconds on this process's monotonic clock: before the request was written, after the answer was read whole. */
  startedAt: number;
  endedAt: number;
  error?: string;
  /** The connection was broken from this side, as it was meant to be. */
  isCut?: boolean;
}

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  /** Breaks the connection on purpose, so that the outcome is unknown unless the answer was faster. */
  cut?: Cut;
  /** The connection is known to be open, and is not tried before. */
  isOpen?: boolean;
}

/**
 * When a connection is broken: with half of the body written, so many milliseconds after all of it was, or as soon as the
 * head of the answer is there.
 */
export type Cut = 'half-way' | 'at-answer' | { afterMs: number };

/** What of the API's representations is read here. */
export interface AppointmentView {
  id: string;
  status: string;
  version: number;
  serviceId: string;
  patientId: string;
  startsAt: string;
  endsAt: string;
  segments: SegmentView[];
  metadata: Record<string, unknown>;
}

export interface SegmentView {
  scheduleId: string;
  practitionerId?: string | null;
  roomId?: string | null;
  startsAt: string;
  endsAt: string;
}

export interface SlotView {
  startsAt: string;
  endsAt: string;
  practitionerId: string;
  remaining?: number;
  segments?: SegmentView[];
}

export interface ProblemView {
  code?: string;
  detail?: string;
  alternatives?: SlotView[];
  currentStatus?: string;
}

/** Longer than anything the server promises (8 s), so that only a server that has lost a request meets it. */
const NO_ANSWER_MS = 30_000;
/** Well below the keep-alive time-outs of servers and proxies: an older connection is tried before it is trusted. */
const COLD_AFTER_MS = 2_000;

/**
 * One caller with one connection of its own, as 200 callers have 200. `node:http` rather than `fetch`: the connection must
 * be open before the start signal, or the storm measures handshakes.
 */
export class Client {
  private readonly agent: http.Agent;
  private lastUsedAt = -Infinity;
  private socket: unknown;
  /** How many connections it has opened so far. */
  connections = 0;

  constructor(
    readonly number: number,
    /** Base URL of the process that it talks to. */
    readonly url: string,
    private readonly apiKey: string,
  ) {
    const options = { keepAlive: true, maxSockets: 1 };
    this.agent = url.startsWith('https:') ? new https.Agent(options) : new http.Agent(options);
  }

  /** Opens the connection, or finds out that it is still open. */
  async warm(): Promise<void> {
    if (performance.now() - this.lastUsedAt < COLD_AFTER_MS) return;
    // The first try may meet a connection that the server has closed meanwhile; the second opens a new one.
    for (let attempt = 1; attempt <= 2; attempt++) {
      const answer = await this.exchange('GET', '/health/live', {});
      if (answer.status !== 0) return;
    }
  }

  /** Never rejects: a failed connection is an answer too. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    if (!options.isOpen && performance.now() - this.lastUsedAt >= COLD_AFTER_MS) await this.warm();
    return this.exchange(method, path, options);
  }

  /**
   * For preparations and clean-up: waits and repeats while the server is busy or limits the rate.
   * @throws Error for any answer but a 2xx and the statuses in `accepted`
   */
  async must(method: string, path: string, options: RequestOptions = {}, accepted: number[] = []): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.request(method, path, options);
      if ((answer.status >= 200 && answer.status < 300) || accepted.includes(answer.status)) return answer;
      // Both say that nothing was changed.
      const again = answer.status === 429 || (answer.status === 503 && problemOf(answer).code === 'busy');
      if (!again || attempt === 10) throw new Error(`${method} ${path}: ${describe(answer)}`);
      const seconds = Number(answer.headers['retry-after'] ?? 1);
      await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(seconds, 0.1), 30) * 1000));
    }
  }

  close(): void {
    this.agent.destroy();
  }

  private exchange(method: string, path: string, { body, headers, cut }: RequestOptions): Promise<Answer> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const { request } = this.url.startsWith('https:') ? https : http;
    const startedAt = performance.now();
    return new Promise((resolve) => {
      let knife: NodeJS.Timeout | undefined;
      let isCut = false;
      const finish = (answer: Omit<Answer, 'startedAt' | 'endedAt'>) => {
        clearTimeout(knife);
        const endedAt = performance.now();
        this.lastUsedAt = answer.status === 0 ? -Infinity : endedAt;
        resolve({ ...answer, startedAt, endedAt });
      };
      const fail = (error: Error) =>
        finish({ status: 0, headers: {}, text: '', body: undefined, error: error.message || error.name, isCut });
      const outgoing = request(
        new URL(path, this.url),
        {
          method,
          agent: this.agent,
          timeout: NO_ANSWER_MS,
          headers: {
            authorization: `Bearer ${this.apiKey}`,
            ...(payload === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
            ...headers,
          },
        },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
          incoming.on('error', fail);
          incoming.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            finish({ status: incoming.statusCode ?? 0, headers: incoming.headers, text, body: parse(text) });
          });
          if (cut === 'at-answer') sever();
        },
      );
      const sever = () => {
        isCut = true;
        outgoing.destroy(new Error('the connection was cut on purpose'));
      };
      outgoing.on('socket', (socket) => {
        if (socket !== this.socket) this.connections++;
        this.socket = socket;
      });
      outgoing.on('error', fail);
      outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${NO_ANSWER_MS / 1000} s`)));
      if (cut === 'half-way') {
        outgoing.write((payload ?? '').slice(0, Math.floor((payload ?? '').length / 2)), sever);
      } else if (typeof cut === 'object') {
        outgoing.end(payload, () => {
          knife = setTimeout(sever, cut.afterMs);
        });
      } else outgoing.end(payload);
    });
  }
}

/** All rows of a list, page by page. */
export async function listAll<T>(client: Client, path: string, query: Record<string, string>): Promise<T[]> {
  const rows: T[] = [];
  let cursor: string | null = null;
  do {
    const parameters = new URLSearchParams({ limit: '100', ...query, ...(cursor === null ? {} : { cursor }) });
    const { body } = await client.must('GET', `${path}?${parameters.toString()}`);
    const page = body as { data: T[]; nextCursor: string | null };
    rows.push(...page.data);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return rows;
}

/** Works through the items with all clients at once, each taking the next item when it is done with one. */
export async function inParallel<T>(
  clients: readonly Client[],
  items: Iterable<T>,
  work: (client: Client, item: T) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.iterator]();
  await Promise.all(
    clients.map(async (client) => {
      for (let next = queue.next(); !next.done; next = queue.next()) await work(client, next.value);
    }),
  );
}

export const problemOf = (answer: Answer): ProblemView =>
  typeof answer.body === 'object' && answer.body !== null ? answer.body : {};

/** One line for a message: status, code, what it says. */
export function describe(answer: Answer): string {
  if (answer.status === 0) return `no answer (${answer.error})`;
  const { code, detail } = problemOf(answer);
  return code === undefined ? `${answer.status} ${answer.text.slice(0, 200)}` : `${answer.status} ${code}: ${detail}`;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
