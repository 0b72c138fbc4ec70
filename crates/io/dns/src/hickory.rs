//! The default resolver.

use std::{fmt, net::SocketAddr, time::Duration};

use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError as HickoryDns, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};

use crate::resolver::{Answer, DnsError, Resolver, SrvRecord};

/// Looks up by hickory-resolver: over UDP, and over TCP what is too long for it.
#[derive(Clone)]
pub struct SystemResolver {
    hickory: TokioResolver,
}

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemResolver")
    }
}

impl SystemResolver {
    /// Asks the name servers that the system is configured with.
    ///
    /// # Errors
    /// [`DnsError::Unreachable`] when the system's configuration can't be read.
    pub fn of_system() -> Result<Self, DnsError> {
        let mut builder = TokioResolver::builder_tokio().map_err(|e| to_error(&e))?;
        bound(builder.options_mut());
        let hickory = builder.build().map_err(|e| to_error(&e))?;
        Ok(Self { hickory })
    }

    /// Asks these name servers.
    ///
    /// # Errors
    /// [`DnsError::Unreachable`] when there is none.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        if servers.is_empty() {
            return Err(DnsError::Unreachable("none is named".into()));
        }
        let server = |server: &SocketAddr| {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections.into())
        };
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = Hickory::builder_with_config(config, provider);
        bound(builder.options_mut());
        let hickory = builder.build().map_err(|e| to_error(&e))?;
        Ok(Self { hickory })
    }

    fn look<T: Send + 'static>(
        &self,
        name: &str,
        record_type: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Answer<T> {
        let hickory = self.hickory.clone();
        let name = name.to_owned();
        Box::pin(async move {
            // Absolute: the system's search list is not for names that came over the network.
            let mut absolute =
                Name::from_ascii(&name).map_err(|_| DnsError::BadName(name.clone()))?;
            absolute.set_fqdn(true);
            match hickory.lookup(absolute, record_type).await {
                // Whatever else came with it (aliases on the way, other types) is nobody's answer.
                Ok(lookup) => Ok(lookup
                    .answers()
                    .iter()
                    .filter_map(|r| read(&r.data))
                    .collect()),
                Err(NetError::Dns(HickoryDns::NoRecordsFound(_))) => Ok(Vec::new()),
                Err(error) => Err(to_error(&error)),
            }
        })
    }
}

impl Resolver for SystemResolver {
    fn srv(&self, name: &str) -> Answer<SrvRecord> {
        self.look(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(SrvRecord {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        })
    }

    fn ipv4(&self, name: &str) -> Answer<std::net::Ipv4Addr> {
        self.look(name, RecordType::A, |data| match data {
            RData::A(a) => Some(a.0),
            _ => None,
        })
    }

    fn ipv6(&self, name: &str) -> Answer<std::net::Ipv6Addr> {
        self.look(name, RecordType::AAAA, |data| match data {
            RData::AAAA(aaaa) => Some(aaaa.0),
            _ => None,
        })
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(3);
    options.attempts = 2;
    options.cache_size = 128;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns0 = true;
}

fn to_error(error: &NetError) -> DnsError {
    match error {
        NetError::Timeout => DnsError::Timeout,
        NetError::NoConnections | NetError::Io(_) | NetError::Busy => {
            DnsError::Unreachable(error.to_string())
        }
        // A foreign enum, which may grow.
        _ => DnsError::BadAnswer(error.to_string()),
    }
}
