//! Limits and times of the standard policy.

/// Limits and times of the standard policy. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The most inbound connections with peers without channels.
    pub max_inbound: usize,
    /// The most of them from one host (an IPv4 address, or the /64 of an IPv6 address). Loopback is not
    /// limited: everything that comes over Tor or a proxy comes from there.
    pub max_per_host: usize,
    /// The most of them from one network (the /16 of an IPv4 address, the /32 of an IPv6 address).
    pub max_per_group: usize,
    /// The most inbound handshakes under way.
    pub max_handshakes: usize,
    /// The most of them from one host.
    pub max_handshakes_per_host: usize,
    /// With how many peers at least to be connected, for gossip: as long as there are fewer, strangers are
    /// dialled. 0 dials none.
    pub min_peers: usize,
    /// The most strangers that are dialled for it.
    pub max_outbound: usize,
    /// Whether DNS seeds may be asked when nobody else is known.
    pub bootstrap: bool,
    /// Whether strangers may send us to addresses of private networks, for test networks.
    pub dial_private: bool,
    /// The most dials under way.
    pub max_dials: usize,
    /// The most dials a minute, in the long run.
    pub dials_per_minute: u32,
    /// How many more at once, after a quiet time.
    pub dial_burst: u32,
    /// The first wait before a peer with channels is dialled again; it doubles with each failure.
    pub min_backoff: u64,
    /// The longest wait.
    pub max_backoff: u64,
    /// A connection that lives this long was no failure.
    pub good_life: u64,
    /// How long a stranger that could not be reached is left alone; doubles with each failure.
    pub stranger_backoff: u64,
    /// How long until the announced network is asked again for addresses.
    pub ask_interval: u64,
    /// How long until the DNS seeds are asked again; doubles each time.
    pub seeds_interval: u64,
    /// After which time a score of misbehaviour is half of what it was.
    pub score_half_life: u64,
    /// How long a peer with channels that misbehaves has to wait before it may come back.
    pub throttle: u64,
    /// The most peers that are remembered without being connected or kept connected.
    pub max_known: usize,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        const SECOND: u64 = 1_000;
        const MINUTE: u64 = 60 * SECOND;
        Self {
            max_inbound: 128,
            max_per_host: 4,
            max_per_group: 32,
            max_handshakes: 64,
            max_handshakes_per_host: 8,
            min_peers: 5,
            max_outbound: 8,
            bootstrap: true,
            dial_private: false,
            max_dials: 32,
            dials_per_minute: 240,
            dial_burst: 60,
            min_backoff: SECOND,
            max_backoff: 5 * MINUTE,
            good_life: 30 * SECOND,
            stranger_backoff: 10 * MINUTE,
            ask_interval: 30 * SECOND,
            seeds_interval: MINUTE,
            score_half_life: 60 * MINUTE,
            throttle: MINUTE,
            max_known: 1_000,
        }
    }
}
