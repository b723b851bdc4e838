import { Injectable } from '@nestjs/common';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10];

/** Prometheus metrics of this process, served at `/metrics`. Labels come from fixed lists, never from users. */
@Injectable()
export class Metrics {
  readonly registry = new Registry();

  /** Tells the pool's connections by state, when somebody looks. */
  countConnections: () => Record<string, number> = () => ({});

  readonly transactions = new Counter({
    name: 'holdfast_transactions_total',
    help: 'Database transactions by kind and outcome (committed, rolled_back, retried, gave_up, unknown).',
    labelNames: ['kind', 'outcome'],
    registers: [this.registry],
  });
  readonly transactionSeconds = new Histogram({
    name: 'holdfast_transaction_duration_seconds',
    help: 'Duration of database transactions, waits for a connection and for locks included.',
    labelNames: ['kind'],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly databaseErrors = new Counter({
    name: 'holdfast_database_errors_total',
    help: 'Errors of the database by kind: deadlock, lock_timeout, serialization, statement_timeout, idle_timeout, constraint, connection, other.',
    labelNames: ['kind'],
    registers: [this.registry],
  });
  readonly constraintViolations = new Counter({
    name: 'holdfast_constraint_violations_total',
    help: 'Changes refused by a database constraint. claim_no_overlap above zero means that a lock was missed: look at once.',
    labelNames: ['constraint'],
    registers: [this.registry],
  });
  readonly dayGateSeconds = new Histogram({
    name: 'holdfast_day_wait_seconds',
    help: 'Time that bookings wait in this process for their turn on one contended day of a schedule.',
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly pool = new Gauge({
    name: 'holdfast_database_pool_connections',
    help: 'Connections of the pool by state (open, idle, waiting).',
    labelNames: ['state'],
    registers: [this.registry],
    collect: () => {
      for (const [state, count] of Object.entries(this.countConnections())) this.pool.set({ state }, count);
    },
  });
  readonly bookings = new Counter({
    name: 'holdfast_bookings_total',
    help: 'Booking requests by outcome: booked, or the code of the refusal.',
    labelNames: ['outcome'],
    registers: [this.registry],
  });
  readonly transitions = new Counter({
    name: 'holdfast_transitions_total',
    help: 'Actions on appointments (confirm, cancel, reschedule, check-in, complete, no-show, expire) by outcome: done, or the code of the refusal.',
    labelNames: ['action', 'outcome'],
    registers: [this.registry],
  });
  readonly racesCaught = new Counter({
    name: 'holdfast_races_caught_total',
    help: 'Races that were caught: slot, hold, exclusion_constraint, patient, version, idempotency_key.',
    labelNames: ['race'],
    registers: [this.registry],
  });

  readonly rateLimitChecks = new Counter({
    name: 'holdfast_rate_limit_checks_total',
    help: 'Checks of limits by outcome: allowed, refused; open or closed when the store was gone.',
    labelNames: ['limit', 'outcome'],
    registers: [this.registry],
  });
  readonly rateLimitStoreUp = new Gauge({
    name: 'holdfast_rate_limit_store_up',
    help: 'Whether this process counts limits in Redis at present: 1, or 0 while Redis is gone or slow. Absent without a Redis.',
    registers: [this.registry],
  });
  readonly rateLimitStoreOperations = new Counter({
    name: 'holdfast_rate_limit_store_operations_total',
    help: 'Operations of limits on Redis by outcome: done, gone (connection, time-out, a server that is not ready), refused.',
    labelNames: ['outcome'],
    registers: [this.registry],
  });
  readonly lockAcquisitions = new Counter({
    name: 'holdfast_lock_acquisitions_total',
    help: 'Distributed locks by outcome: acquired, refused (somebody else had it until the last attempt), lost while held.',
    labelNames: ['outcome'],
    registers: [this.registry],
  });
  readonly lockWaitSeconds = new Histogram({
    name: 'holdfast_lock_wait_seconds',
    help: 'Time until a distributed lock was acquired, or refused.',
    buckets: SECONDS,
    registers: [this.registry],
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }
}
