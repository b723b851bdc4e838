import { actions } from './actions';
import { bookings } from './bookings';
import { guard, otp } from './limits';
import { hotDay, oneSlot } from './crowd';
import { forms } from './forms';
import { lists, sweep } from './records';
import type { Row } from './row';
import { safety } from './safety';
import { searchBeside, slotsOfMany, slotsOfOne, visits } from './searches';
import { footprint, growth } from './size';

/** In the order of the table. What compares two sizes comes before most of what makes the large one larger. */
export const ROWS: readonly Row[] = [
  growth,
  bookings,
  actions,
  safety,
  forms,
  oneSlot,
  hotDay,
  slotsOfOne,
  slotsOfMany,
  visits,
  searchBeside,
  guard,
  otp,
  footprint,
  lists,
  sweep,
];
