//! Where a site's primary is found: one address, several of which one is the primary's, or Sentinels that know it.

use std::fmt;

use super::endpoint::{EndpointFile, split_urls};
use super::{Endpoint, EndpointError, Environment};

/// A site as the agent reaches it. `Display` and `Debug` never show a password.
#[derive(Clone)]
pub enum Site {
    /// These servers, at least one. One alone is taken as it is: the primary, or a proxy that leads to it.
    Servers(Vec<Endpoint>),
    /// Sentinels that tell the address.
    Sentinel(Sentinel),
}

/// The Sentinels of one primary.
#[derive(Clone)]
pub struct Sentinel {
    /// At least one; each knows the primary.
    pub sentinels: Vec<Endpoint>,
    /// What they call it.
    pub name: String,
    /// Login and TLS of the servers; its address is none of theirs.
    server: Endpoint,
}

impl Sentinel {
    /// The server at an address that a Sentinel has told.
    #[must_use]
    pub fn server(&self, host: &str, port: u16) -> Endpoint {
        self.server.at(host, port)
    }
}

impl Site {
    /// Whether there is more than one place to look, so that the primary must be looked for.
    #[must_use]
    pub fn must_be_searched(&self) -> bool {
        !matches!(self, Self::Servers(servers) if servers.len() == 1)
    }

    /// Every address of it that the configuration names.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Servers(servers) => servers,
            Self::Sentinel(Sentinel { sentinels, .. }) => sentinels,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.endpoints().iter().map(Endpoint::address).collect::<Vec<_>>().join(",");
        let tls = self.endpoints().first().is_some_and(|endpoint| endpoint.tls.is_some());
        let scheme = if tls { "rediss" } else { "redis" };
        match self {
            Self::Servers(_) => write!(f, "{scheme}://{addresses}"),
            Self::Sentinel(Sentinel { name, .. }) => write!(f, "{scheme}+sentinel://{addresses}/{name}"),
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl EndpointFile {
    /// Reads the URL or URLs, the files they name and, for what is still open, `<variable>_USER` and
    /// `<variable>_PASSWORD`.
    ///
    /// # Errors
    /// When anything is wrong or said twice.
    pub fn parse_site(self, variable: &str, environment: Environment<'_>) -> Result<Site, EndpointError> {
        let urls = split_urls(self.url());
        let Some(sentinels) = urls.iter().map(|url| plain_of_sentinel(url)).collect::<Option<Vec<_>>>() else {
            let servers = urls.into_iter().map(|url| self.clone().with_url(url).parse(variable, environment));
            return Ok(Site::Servers(servers.collect::<Result<_, _>>()?));
        };
        let (url, name) = sentinels.first().cloned().ok_or(EndpointError::Host)?;
        if name.is_empty() || sentinels.iter().any(|(_, other)| *other != name) {
            return Err(EndpointError::SentinelName);
        }
        let server = self.clone().with_url(url).without_sentinel_login()?.parse(variable, environment)?;
        let sentinel = format!("{variable}_SENTINEL");
        let one = |(url, _)| self.clone().with_url(url).with_sentinel_login()?.parse(&sentinel, environment);
        let sentinels = sentinels.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Site::Sentinel(Sentinel { sentinels, name, server }))
    }
}

/// `redis+sentinel://host/name?x` as `redis://host?x`, and the name.
fn plain_of_sentinel(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.strip_suffix("+sentinel")?;
    let (before, options) = rest.split_once('?').map_or((rest, None), |(before, options)| (before, Some(options)));
    let (authority, name) = before.split_once('/').unwrap_or((before, ""));
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    // The port of Sentinels is another one.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit(']').next().unwrap_or_default().contains(':');
    let port = if has_port { "" } else { ":26379" };
    Some((format!("{scheme}://{authority}{port}{options}"), name.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Site, EndpointError> {
        let environment = |name: &str| match name {
            "SITE_SENTINEL_PASSWORD" => Some("of sentinel".to_owned()),
            _ => None,
        };
        EndpointFile::from(url.to_owned()).parse_site("SITE", &environment)
    }

    fn login(endpoint: &Endpoint) -> Option<&str> {
        endpoint.credentials.as_ref().map(|credentials| credentials.password.reveal())
    }

    #[test]
    fn one_address_is_taken_as_it_is() {
        let site = parse("redis://:a,b@h:1").unwrap();
        assert!(!site.must_be_searched());
        assert_eq!((site.to_string().as_str(), login(&site.endpoints()[0])), ("redis://h:1", Some("a,b")));
    }

    #[test]
    fn several_addresses_share_what_the_url_says() {
        let site = parse("redis://:a,b@h:1,[::1]:2,i?user=ann").unwrap();
        assert!(site.must_be_searched());
        assert_eq!(site.to_string(), "redis://h:1,[::1]:2,i:6379");
        assert!(site.endpoints().iter().all(|endpoint| login(endpoint) == Some("a,b")));
        let two = parse("redis://:x@h:1,redis://:y@i:2").unwrap();
        assert_eq!(two.endpoints().iter().map(|endpoint| login(endpoint)).collect::<Vec<_>>(), [Some("x"), Some("y")]);
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let site = parse("redis+sentinel://:of-servers@s1,s2:7/mymaster").unwrap();
        assert_eq!(site.to_string(), "redis+sentinel://s1:26379,s2:7/mymaster");
        assert!(site.endpoints().iter().all(|endpoint| login(endpoint) == Some("of sentinel")));
        let Site::Sentinel(sentinel) = &site else { panic!("{site}") };
        let server = sentinel.server("10.0.0.9", 6390);
        assert_eq!((server.address().as_str(), login(&server)), ("10.0.0.9:6390", Some("of-servers")));
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let refusal = |url: &str| parse(url).unwrap_err().to_string();
        assert!(refusal("redis+sentinel://s1,s2").contains("/mymaster"));
        assert!(refusal("redis://h?sentinel-password=x").contains("+sentinel"));
        assert!(refusal("redis://h,").contains("host"));
        assert!(refusal("redis://h,redis+sentinel://s/m").contains("`redis+sentinel:`"));
        assert!(refusal("redis+sentinel://s/m?color=red").contains("`color`"));
    }
}
