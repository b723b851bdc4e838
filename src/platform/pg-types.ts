import { types } from 'pg';
import { fromRanges } from './interval';

// How values of PostgreSQL arrive in JavaScript, for the whole process:
// ranges of instants as lists of intervals, dates as `YYYY-MM-DD` (a date has no instant), bigint as number (our counters).
const [TSTZRANGE, TSTZMULTIRANGE, DATE, BIGINT] = [3910, 4534, 1082, 20];
types.setTypeParser(TSTZRANGE, fromRanges);
types.setTypeParser(TSTZMULTIRANGE, fromRanges);
types.setTypeParser(DATE, (text) => text);
types.setTypeParser(BIGINT, Number);
