import { connect, type Socket } from 'node:net';

/** What came back. */
export interface Reply {
  status: number;
  text: string;
}

const HEAD_END = Buffer.from('\r\n\r\n');

/**
 * One kept-alive HTTP/1.1 connection, one request at a time. The generator shares two cores with what it measures, and this
 * costs a fraction of `http.request`. It knows answers with a Content-Length only, which is what both sides send.
 */
export class Wire {
  private buffered: Buffer = Buffer.alloc(0);
  private waiting?: { resolve(reply: Reply): void; reject(error: Error): void };

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.read(chunk));
    const gone = (error?: Error) => this.fail(error ?? new Error('The server closed the connection.'));
    socket.on('error', gone);
    socket.on('close', () => gone());
  }

  static open(url: string): Promise<Wire> {
    const { hostname, port } = new URL(url);
    return new Promise((resolve, reject) => {
      const socket = connect(Number(port), hostname);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.removeListener('error', reject);
        resolve(new Wire(socket));
      });
    });
  }

  /** @param request as {@link requestOf} makes it */
  send(request: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.socket.write(request);
    });
  }

  close(): void {
    this.waiting = undefined;
    this.socket.destroy();
  }

  private read(chunk: Buffer): void {
    this.buffered = this.buffered.length === 0 ? chunk : Buffer.concat([this.buffered, chunk]);
    const end = this.buffered.indexOf(HEAD_END);
    if (end < 0) return;
    const head = this.buffered.toString('latin1', 0, end);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN);
    if (Number.isNaN(length)) return this.fail(new Error(`An answer without a length: ${head.slice(0, 200)}`));
    const whole = end + 4 + length;
    if (this.buffered.length < whole) return;
    const reply = { status: Number(head.slice(9, 12)), text: this.buffered.toString('utf8', end + 4, whole) };
    this.buffered = this.buffered.subarray(whole);
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.resolve(reply);
  }

  private fail(error: Error): void {
    const { waiting } = this;
    this.waiting = undefined;
    waiting?.reject(error);
  }
}

/** The bytes of a request, with headers that are the same for every one already written out by {@link headersOf}. */
export const requestOf = (method: string, path: string, headers: string, body?: unknown): string => {
  if (body === undefined) return `${method} ${path} HTTP/1.1\r\n${headers}\r\n`;
  const text = JSON.stringify(body);
  return `${method} ${path} HTTP/1.1\r\n${headers}content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
};

export const headersOf = (headers: Record<string, string>): string =>
  Object.entries({ host: '127.0.0.1', ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
