import { BlockList, isIP } from 'node:net';

/** Names for networks that nobody wants to write down. */
const NAMED: Readonly<Record<string, readonly string[]>> = {
  none: [],
  loopback: ['127.0.0.0/8', '::1'],
  private: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7', 'fe80::/10'],
};

/** A set of IP addresses: addresses, networks (`10.0.0.0/8`), and the names `loopback`, `private` and `none`. */
export class Addresses {
  private readonly list = new BlockList();
  readonly isEmpty: boolean;

  /** @throws Error for an entry that is none of these */
  constructor(entries: readonly string[]) {
    const networks = entries.flatMap((entry) => NAMED[entry] ?? [entry]);
    this.isEmpty = networks.length === 0;
    for (const network of networks) {
      const [address = '', prefix, more] = network.split('/');
      const version = isIP(address);
      const longest = version === 4 ? 32 : 128;
      const length = prefix === undefined ? longest : /^\d{1,3}$/.test(prefix) ? Number(prefix) : NaN;
      if (version === 0 || more !== undefined || !(length <= longest)) throw new Error(`${network} is no address`);
      this.list.addSubnet(address, length, version === 4 ? 'ipv4' : 'ipv6');
    }
  }

  has(address: string): boolean {
    const plain = plainAddress(address);
    const version = isIP(plain);
    return version !== 0 && this.list.check(plain, version === 4 ? 'ipv4' : 'ipv6');
  }
}

/** An IPv4 address that came as IPv6 (`::ffff:192.0.2.1`) as what it is. */
const plainAddress = (address: string): string => (/^::ffff:[\d.]+$/i.test(address) ? address.slice(7) : address);

/**
 * Whom an address stands for: an IPv4 address for itself, an IPv6 address for its /64, for whoever has one address of such a
 * network has all of them.
 */
export function networkOf(address: string): string {
  const plain = plainAddress(address);
  if (isIP(plain) !== 6) return plain;
  const [head = '', tail] = plain.split('%', 1)[0]!.split('::', 2);
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const behind = tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0);
    for (let missing = 8 - groups.length - behind; missing > 0; missing--) groups.push('0');
    if (groups.length < 4) groups.push(...tail.split(':'));
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
