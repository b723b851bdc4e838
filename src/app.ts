import cors, { type FastifyCorsOptions } from '@fastify/cors';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import type { FastifyReply, FastifyRequest } from 'fastify';
import helmet from 'helmet';
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { uuidv7 } from 'uuidv7';
import { AppModule } from './app.module';
import {
  Addresses,
  bodyOf,
  type Config,
  inContext,
  isRequestId,
  type Log,
  Problem,
  refuseOtherThanObject,
  refuseUnfit,
  ReplyAdapter,
  RequestLimits,
} from './platform';

/** Bodies are small; what is larger is refused while it arrives. */
const LARGEST_BODY = 262_144;
/** Of a request line with all headers, in bytes; the longest tokens have one. */
const LARGEST_HEAD = 16_384;

/** Builds the application without listening yet. */
export async function createApp(config: Config, log: Log): Promise<NestFastifyApplication> {
  const proxies = new Addresses(config.trustedProxies);
  const adapter = new ReplyAdapter({
    // The caller's address is what the nearest proxy says that is not trusted itself; without one, the connection's.
    trustProxy: proxies.isEmpty ? false : (address: string) => proxies.has(address),
    bodyLimit: LARGEST_BODY,
    http: { maxHeaderSize: LARGEST_HEAD },
    clientErrorHandler: (error, socket) => refuseConnection(error, socket),
    forceCloseConnections: 'idle',
    // What the router cannot read does not reach the filter that makes problems.
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      const problem = Problem.invalid({ pointer: 'path', detail: error.message });
      void reply
        .status(problem.status)
        .type('application/problem+json')
        .send(JSON.stringify(bodyOf(problem, request.url)));
    },
    routerOptions: { maxParamLength: 200 },
    // A caller's own name for his request, so that he finds it in our logs.
    requestIdHeader: false,
    genReqId: ({ headers: { 'x-request-id': name } }: IncomingMessage) => (isRequestId(name) ? name : uuidv7()),
  });
  const app = await NestFactory.create<NestFastifyApplication>(AppModule.forRoot(config, log), adapter, {
    logger: log,
    abortOnError: false,
    // JSON is all that is read here, by the server's own parser.
    bodyParser: false,
  });
  const fastify = adapter.getInstance();
  const headers = constantHeaders();
  fastify.addHook('onRequest', (request, reply, done) => {
    void reply.headers(headers).header('x-request-id', request.id);
    done();
  });
  // Before the limits, whose refusals are to be read by pages, too. Awaited, or its hook would come behind all others.
  if (config.corsOrigins.length > 0) await fastify.register(cors, corsOf(config));
  fastify.addHook('onRequest', app.get(RequestLimits, { strict: false }).onRequest);
  fastify.removeContentTypeParser('text/plain');
  fastify.addHook('preValidation', (request, _reply, done) => {
    try {
      refuseOtherThanObject(request.body);
      refuseUnfit(request.body);
      refuseUnfit(request.query);
      // Here, behind the arrival of the body, whose events know nothing of a context.
      inContext({ requestId: request.id }, done);
    } catch (error) {
      done(error as Error);
    }
  });
  if (config.role === 'worker') {
    // A worker is asked for its health and for nothing else.
    fastify.addHook('onRequest', (request, reply, done) => {
      if (request.url.startsWith('/health/')) return done();
      const problem = new Problem('not_found', 'This process is a worker; it serves /health/* only.');
      void reply
        .status(404)
        .type('application/problem+json')
        .send(JSON.stringify(bodyOf(problem, request.url)));
    });
  }
  SwaggerModule.setup('docs', app, () => describeApi(app), {
    jsonDocumentUrl: 'openapi.json',
    yamlDocumentUrl: 'openapi.yaml',
  });
  return app;
}

/** For scripts of pages that are named. Who calls is told by a token and never by a cookie, so credentials are not allowed. */
const corsOf = ({ corsOrigins }: Config): FastifyCorsOptions => ({
  origin: [...corsOrigins],
  methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
  allowedHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'If-Match', 'If-None-Match', 'X-Request-Id'],
  exposedHeaders: [
    ...['ETag', 'Location', 'Idempotency-Replayed', 'X-Request-Id'],
    ...['Retry-After', 'RateLimit', 'RateLimit-Policy'],
  ],
  maxAge: 600,
});

/**
 * What is no request that could be read: no hook and no filter sees it. Nothing is logged, for anybody can send it, as often as
 * he likes.
 */
function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return void socket.end('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  const problem =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new Problem('headers_too_large', `All headers together may have ${LARGEST_HEAD} bytes.`)
      : Problem.invalid({ pointer: '', detail: 'This is no HTTP request.' });
  const body = JSON.stringify(bodyOf(problem, ''));
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'Connection: close',
    'Cache-Control: no-store',
    'Content-Type: application/problem+json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

/** What every answer carries. Worked out once: the middleware that does it anew each time cost 3 % of a booking. */
function constantHeaders(): Record<string, string> {
  // Answers are about patients: nobody on the way keeps them.
  const headers: Record<string, string> = { 'cache-control': 'no-store' };
  const response = {
    setHeader: (name: string, value: string) => void (headers[name.toLowerCase()] = value),
    removeHeader: () => undefined,
  };
  helmet({
    // The API answers with data; the pages under /docs bring their own inline scripts and styles.
    contentSecurityPolicy: {
      directives: {
        scriptSrc: ["'self'", "'unsafe-inline'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        upgradeInsecureRequests: null,
      },
    },
  })({} as IncomingMessage, response as unknown as ServerResponse, (error) => {
    if (error) throw error as Error;
  });
  return headers;
}

/** The OpenAPI document, as `/openapi.json` serves it and `docs/openapi.json` keeps it. */
export function describeApi(app: NestFastifyApplication): OpenAPIObject {
  const description = new DocumentBuilder()
    .setTitle('Holdfast')
    .setDescription(
      'Scheduling for clinics and practices. Errors are application/problem+json (RFC 9457) with a stable `code`.',
    )
    .setVersion('1')
    .addBearerAuth({ type: 'http', description: 'An access token, or an API key, which begins with hf_' })
    .addSecurityRequirements('bearer')
    .build();
  const document = SwaggerModule.createDocument(app, description, {
    operationIdFactory: (controller, method) => `${controller.replace(/Controller$/, '')}_${method}`,
  });
  return withConventions(document);
}

/** What holds for every operation, said once: how errors look, and the headers that requests may carry. */
function withConventions(document: OpenAPIObject): OpenAPIObject {
  const text = { type: 'string' as const };
  const schemas = (document.components ??= {}).schemas ?? {};
  document.components.schemas = schemas;
  schemas['Problem'] = {
    type: 'object',
    description: 'RFC 9457. Extensions stand beside these: errors, alternatives, currentStatus, currentVersion.',
    required: ['type', 'title', 'status', 'detail', 'instance', 'code'],
    properties: { type: text, title: text, status: { type: 'integer' }, detail: text, instance: text, code: text },
  };
  const problem = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } };
  const header = (name: string, about: string) => ({
    name,
    in: 'header' as const,
    required: false,
    description: about,
    schema: text,
  });
  const limitHeader = { schema: text };
  document.components.responses = {
    RateLimited: {
      description: 'Too many requests of this caller or this address; `code` is rate_limited',
      headers: { 'Retry-After': limitHeader, RateLimit: limitHeader, 'RateLimit-Policy': limitHeader },
      content: problem,
    },
  };
  for (const [name, path] of Object.entries(document.paths)) {
    for (const method of ['get', 'post', 'put', 'patch', 'delete'] as const) {
      const operation = path[method];
      if (!operation) continue;
      operation.responses['default'] = { description: 'A problem; `code` says which', content: problem };
      if (name.startsWith('/v1/')) operation.responses['429'] = { $ref: '#/components/responses/RateLimited' };
      const headers = [
        ...(method === 'post' && !name.startsWith('/v1/auth/')
          ? [header('Idempotency-Key', 'Repetitions under it have one effect, and get the first answer')]
          : []),
        ...(method === 'get' ? [] : [header('If-Match', 'The ETag that a change is based on; required for schedules')]),
      ];
      operation.parameters = [...(operation.parameters ?? []), ...headers];
    }
  }
  return document;
}
