/** Preloaded into the app: every code is the right one, none is counted or spent, and each answer has its own refresh token. */
const rewrite = require('./rewrite.cjs');
const replace = require('./replace.cjs');

rewrite((sql) => {
  if (sql.includes('UPDATE otp_code SET tries')) return rewrite.exchange(sql, 'SET tries = tries + 1', 'SET tries = 0');
  return sql.startsWith('DELETE FROM otp_code WHERE org') ? sql.replace('DELETE', 'SELECT') : sql;
});
replace('auth/otp.service.js', 'OtpService', 'hashOf', () => () => Buffer.alloc(32));
let tokens = 0;
replace('auth/sessions.service.js', 'SessionsService', 'rotate', (before) => async function (...values) {
  const opened = await before.apply(this, values);
  return opened?.subject ? { ...opened, generation: opened.generation + ++tokens } : opened;
}); // prettier-ignore
