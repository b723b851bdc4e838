/** The compiled parts of the app that plants change, found beside the program that is started. */
const path = require('node:path');

/** Replaces a method of a class of the app; `make` gets the method as it was. */
module.exports = function replace(file, name, method, make) {
  const { [name]: type } = require(path.resolve(path.dirname(process.argv[1]), file));
  const before = type?.prototype[method];
  // A plant that finds nothing to do would let the test pass for the wrong reason.
  if (typeof before !== 'function') throw new Error(`There is no ${name}.${method} any more.`);
  type.prototype[method] = make(before);
};
