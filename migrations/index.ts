import { Foundation1795305600000 } from './1795305600000-foundation';

/** Every migration, in order. Listed by hand: a file that is not named here does not run. */
export const migrations = [Foundation1795305600000];
