/**
 * Preloaded into the app: guesses are not counted, a limit reads before it has its lock, an invitation is taken by whoever looked in
 * time, and all clients that refresh look alike.
 */
const rewrite = require('./rewrite.cjs');
const replace = require('./replace.cjs');

rewrite((sql) => {
  if (sql.includes('UPDATE otp_code SET tries')) return rewrite.exchange(sql, 'SET tries = tries + 1', 'SET tries = 0');
  if (sql.includes('INSERT INTO rate_limit AS w'))
    return rewrite.exchange(sql, /ON CONFLICT \(key\) DO UPDATE[^]*$/, 'ON CONFLICT (key) DO NOTHING');
  if (sql.includes('UPDATE invitation SET accepted_at')) return rewrite.exchange(sql, 'accepted_at IS NULL AND', '');
  if (sql.startsWith('UPDATE auth_session SET revoked_at = now() WHERE id = $1')) return 'SELECT $1::uuid';
  return sql;
});

replace('auth/sessions.service.js', 'SessionsService', 'refresh', (before) => function (token, client) {
  return before.call(this, token, { ...client, print: Buffer.alloc(32) });
}); // prettier-ignore
let accounts = 0;
replace('auth/accounts.service.js', 'AccountsService', 'insert', (before) => function (tx, account) {
  return before.call(this, tx, { ...account, email: `${process.pid}.${accounts++}.${account.email}` });
}); // prettier-ignore
