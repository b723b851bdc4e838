import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException, Injectable } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ConstraintViolation, Problem, type ProblemCode } from './errors';
import { Log } from './logging';

const CODE_OF_STATUS: Record<number, ProblemCode> = {
  400: 'validation_failed',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  405: 'method_not_allowed',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
};

/** The one place where an error becomes an answer: application/problem+json (RFC 9457). */
@Injectable()
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly log: Log) {}

  catch(error: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const response = http.getResponse<FastifyReply>();
    const problem = this.toProblem(error, request);
    void response
      .status(problem.status)
      .headers(problem.headers)
      .header('Content-Type', 'application/problem+json; charset=utf-8')
      .send(JSON.stringify(bodyOf(problem, request.url)));
  }

  private toProblem(error: unknown, request: FastifyRequest): Problem {
    if (error instanceof Problem) return error;
    const status =
      error instanceof HttpException
        ? error.getStatus()
        : (error as { statusCode?: number } | null | undefined)?.statusCode;
    const code = CODE_OF_STATUS[status ?? 0];
    if (code === 'not_found') return new Problem('not_found', `There is no ${request.method} ${pathOf(request.url)}.`);
    if (code === 'validation_failed' || (code === undefined && status !== undefined && status >= 400 && status < 500)) {
      return Problem.invalid({ pointer: '', detail: sentence(error) });
    }
    if (code) return new Problem(code, sentence(error));
    this.log.failure(
      error instanceof ConstraintViolation ? 'unexpected_constraint_violation' : 'unexpected_error',
      error,
      {
        method: request.method,
        path: pathOf(request.url),
      },
    );
    return new Problem(
      'internal_error',
      'The failure was recorded. Nothing that was not acknowledged has been changed.',
    );
  }
}

const pathOf = (url: string): string => url.split('?', 1)[0] as string;

const sentence = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The members of RFC 9457, then the extensions. */
export function bodyOf(problem: Problem, url: string): Record<string, unknown> {
  return {
    type: `urn:holdfast:problem:${problem.code}`,
    title: problem.title,
    status: problem.status,
    detail: problem.message,
    instance: pathOf(url),
    code: problem.code,
    ...problem.extensions,
  };
}
