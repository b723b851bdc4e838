/** Preloaded into the app: nobody looks at If-Match when an appointment is changed. */
const http = require('node:http');

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, ...rest) {
  if (event === 'request' && request.url.startsWith('/v1/appointments/')) delete request.headers['if-match'];
  return emit.call(this, event, request, ...rest);
};
