//! Addresses of servers: URL, login, TLS.

use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use super::{Environment, Secret, Tls, TlsError, TlsFiles};

/// The port when a URL names none.
const DEFAULT_PORT: u16 = 6379;

/// A server or the proxy in front of it. `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct Endpoint {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who we are there, if it asks.
    pub credentials: Option<Credentials>,
    /// For `rediss://`.
    pub tls: Option<Tls>,
}

/// What `AUTH` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Without it the server's `default` user.
    pub user: Option<String>,
    /// Its password, as it was at the start.
    pub password: Secret,
    /// Where the password comes from, if from a file.
    file: Option<PathBuf>,
}

/// An endpoint as written: a URL alone, or a table. The URL's query takes the same keys as the table, so that a flag can
/// say everything the file can: `rediss://host:port?ca=ca.pem&server-name=db.example`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(from = "EndpointForm")]
pub struct EndpointFile(EndpointTable);

#[derive(serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a URL, or a table with `url` and the optional keys user, password, password-file, ca, cert, key, server-name, sentinel-user, sentinel-password, sentinel-password-file"
)]
enum EndpointForm {
    Url(Secret),
    Table(Box<EndpointTable>),
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EndpointTable {
    /// A secret until parsed: it may hold a password.
    url: Secret,
    user: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<Secret>,
    sentinel_password_file: Option<PathBuf>,
}

/// What is wrong with an endpoint. No variant quotes the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error("the address is no URL ({0}); write redis://[user:password@]host[:port] or rediss:// for TLS")]
    Url(#[from] url::ParseError),
    /// Another scheme.
    #[error("the URL begins with `{0}:`; write redis://, rediss:// for TLS, or redis+sentinel:// for all addresses")]
    Scheme(String),
    /// No host.
    #[error("the URL names no host")]
    Host,
    /// `redis://host/3`
    #[error("the URL names a database; leave the path away, all databases are replicated")]
    Path,
    /// An unknown key after `?`.
    #[error(
        "`{0}` is no option; after `?` there may be user, password, password-file, ca, cert, key, server-name, sentinel-user, sentinel-password, sentinel-password-file, joined by `&`"
    )]
    Option(String),
    /// Two sources for one thing.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// A user alone.
    #[error("a user without a password: add password-file or {0}_PASSWORD to the environment")]
    UserOnly(String),
    /// The password file is unreadable.
    #[error("cannot read the password file {0}: {1}")]
    PasswordFile(PathBuf, std::io::Error),
    /// TLS options with `redis://`.
    #[error("`{0}` is given but the URL isn't rediss://")]
    TlsUnused(&'static str),
    /// Sentinels that are not told whom to ask for, or for several.
    #[error("name the primary as the Sentinels do: redis+sentinel://host:26379,host2:26379/mymaster")]
    SentinelName,
    /// A Sentinel's login without Sentinels.
    #[error("a login for Sentinels is given, but the URL isn't redis+sentinel:// or rediss+sentinel://")]
    SentinelUnused,
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl From<String> for EndpointFile {
    fn from(url: String) -> Self {
        EndpointForm::Url(Secret::new(url)).into()
    }
}

impl From<EndpointForm> for EndpointFile {
    fn from(form: EndpointForm) -> Self {
        Self(match form {
            EndpointForm::Table(table) => *table,
            EndpointForm::Url(url) => EndpointTable {
                url,
                user: None,
                password: None,
                password_file: None,
                ca: None,
                cert: None,
                key: None,
                server_name: None,
                sentinel_user: None,
                sentinel_password: None,
                sentinel_password_file: None,
            },
        })
    }
}

impl EndpointFile {
    /// The URL as written, which may hold a password.
    pub(super) fn url(&self) -> &str {
        self.0.url.reveal()
    }

    pub(super) fn with_url(mut self, url: String) -> Self {
        self.0.url = Secret::new(url);
        self
    }

    /// For the servers behind Sentinels.
    pub(super) fn without_sentinel_login(mut self) -> Result<Self, EndpointError> {
        self.absorb_url()?;
        self.0.take_sentinel_login();
        Ok(self)
    }

    /// For the Sentinels: their login in place of the servers'.
    pub(super) fn with_sentinel_login(mut self) -> Result<Self, EndpointError> {
        self.absorb_url()?;
        let (user, password, file) = self.0.take_sentinel_login();
        (self.0.user, self.0.password, self.0.password_file) = (user, password, file);
        Ok(self)
    }

    /// Moves what the URL says into the table.
    fn absorb_url(&mut self) -> Result<(), EndpointError> {
        let mut url = Url::parse(self.url())?;
        self.0.add_url(&url)?;
        url.set_query(None);
        // Fails only for URLs that cannot hold them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        self.0.url = Secret::new(url);
        Ok(())
    }

    /// Reads the URL, the files it names and, for what is still open, `<variable>_USER` and `<variable>_PASSWORD`.
    ///
    /// # Errors
    /// When anything is wrong or said twice.
    pub fn parse(self, variable: &str, environment: Environment<'_>) -> Result<Endpoint, EndpointError> {
        let Self(mut table) = self;
        let url = Url::parse(table.url.reveal())?;
        let encrypted = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            other => return Err(EndpointError::Scheme(other.to_owned())),
        };
        if !matches!(url.path(), "" | "/") {
            return Err(EndpointError::Path);
        }
        table.add_url(&url)?;
        if matches!(table.take_sentinel_login(), (Some(_), _, _) | (_, Some(_), _) | (_, _, Some(_))) {
            return Err(EndpointError::SentinelUnused);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EndpointError::Host)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port().unwrap_or(DEFAULT_PORT);
        let EndpointTable { user, password, password_file, ca, cert, key, server_name, .. } = table;
        let credentials = Credentials::gather(user, password, password_file, variable, environment)?;
        let tls = match encrypted {
            true => Some(Tls::load(&TlsFiles { ca, cert, key, server_name }, &host)?),
            false => {
                let given = [("ca", ca.is_some()), ("cert", cert.is_some()), ("key", key.is_some())];
                let given = given.into_iter().chain([("server-name", server_name.is_some())]).find(|(_, given)| *given);
                given.map_or(Ok(None), |(name, _)| Err(EndpointError::TlsUnused(name)))?
            }
        };
        Ok(Endpoint { host, port, credentials, tls })
    }
}

impl EndpointTable {
    /// Adds what the URL says.
    fn add_url(&mut self, url: &Url) -> Result<(), EndpointError> {
        if !url.username().is_empty() {
            once(&mut self.user, "user", decoded(url.username()))?;
        }
        if let Some(password) = url.password() {
            once(&mut self.password, "password", Secret::new(decoded(password)))?;
        }
        for (key, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*key {
                "user" => once(&mut self.user, "user", value)?,
                "password" => once(&mut self.password, "password", Secret::new(value))?,
                "password-file" => once(&mut self.password_file, "password-file", value.into())?,
                "ca" => once(&mut self.ca, "ca", value.into())?,
                "cert" => once(&mut self.cert, "cert", value.into())?,
                "key" => once(&mut self.key, "key", value.into())?,
                "server-name" => once(&mut self.server_name, "server-name", value)?,
                "sentinel-user" => once(&mut self.sentinel_user, "sentinel-user", value)?,
                "sentinel-password" => once(&mut self.sentinel_password, "sentinel-password", Secret::new(value))?,
                "sentinel-password-file" => {
                    once(&mut self.sentinel_password_file, "sentinel-password-file", value.into())?;
                }
                other => return Err(EndpointError::Option(other.to_owned())),
            }
        }
        Ok(())
    }

    fn take_sentinel_login(&mut self) -> (Option<String>, Option<Secret>, Option<PathBuf>) {
        (self.sentinel_user.take(), self.sentinel_password.take(), self.sentinel_password_file.take())
    }
}

/// The addresses of a comma list, each as a URL of its own: `redis://a,redis://b`, or `redis://login@a,b?options`, whose
/// hosts share the rest.
pub(super) fn split_urls(text: &str) -> Vec<String> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.split(',') {
        match urls.last_mut() {
            Some(last) if !begins_url(part) => *last = format!("{last},{part}"),
            _ => urls.push(part.to_owned()),
        }
    }
    urls.iter().flat_map(|url| split_hosts(url)).collect()
}

fn begins_url(text: &str) -> bool {
    let scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'+');
    text.split_once("://").is_some_and(|(before, _)| !before.is_empty() && scheme(before))
}

fn split_hosts(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    hosts.split(',').map(|host| format!("{scheme}://{login}{host}{tail}")).collect()
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), EndpointError> {
    match slot.replace(value) {
        Some(_) => Err(EndpointError::Twice(name)),
        None => Ok(()),
    }
}

/// Percent-decodes a part of a URL.
fn decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

impl Credentials {
    fn gather(
        user: Option<String>,
        password: Option<Secret>,
        password_file: Option<PathBuf>,
        variable: &str,
        environment: Environment<'_>,
    ) -> Result<Option<Self>, EndpointError> {
        let user = user.or_else(|| environment(&format!("{variable}_USER")));
        let file = password_file.clone();
        let password = match (password, password_file) {
            (Some(_), Some(_)) => return Err(EndpointError::Twice("password")),
            (Some(password), None) => Some(password),
            (None, Some(path)) => Some(read_password(&path)?),
            (None, None) => environment(&format!("{variable}_PASSWORD")).map(Secret::new),
        };
        match (user, password) {
            (user, Some(password)) => Ok(Some(Self { user, password, file })),
            (Some(_), None) => Err(EndpointError::UserOnly(variable.to_owned())),
            (None, None) => Ok(None),
        }
    }

    /// The password for the next login: as its file has it now, if it has one, since passwords are changed while the agent runs.
    #[must_use]
    pub fn password(&self) -> Secret {
        let now = self.file.as_deref().and_then(|file| read_password(file).ok());
        // One that is just being written is empty.
        now.filter(|password| !password.reveal().is_empty()).unwrap_or_else(|| self.password.clone())
    }
}

/// The first line of the file.
fn read_password(path: &Path) -> Result<Secret, EndpointError> {
    let text = std::fs::read_to_string(path).map_err(|error| EndpointError::PasswordFile(path.to_owned(), error))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

impl Endpoint {
    /// Another server with the same login and authorities.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let tls = self.tls.as_ref().map(|tls| tls.at(host));
        Self { host: host.to_owned(), port, credentials: self.credentials.clone(), tls }
    }

    /// `host:port`, for people.
    #[must_use]
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls.is_some() { "rediss" } else { "redis" }, self.address())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.credentials.as_ref().map_or(Ok(()), |credentials| write!(f, " {credentials:?}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let environment = |name: &str| match name {
            "SITE_PASSWORD" => Some("from the environment".to_owned()),
            _ => None,
        };
        EndpointFile::from(url.to_owned()).parse("SITE", &environment)
    }

    fn password(endpoint: &Endpoint) -> &str {
        endpoint.credentials.as_ref().map_or("", |credentials| credentials.password.reveal())
    }

    #[test]
    fn reads_urls() {
        let endpoint = parse("redis://ann:p%40ss%2B+%3A@db.example:7000").unwrap();
        assert_eq!(endpoint.address(), "db.example:7000");
        assert_eq!(password(&endpoint), "p@ss++:");
        assert_eq!(endpoint.credentials.as_ref().unwrap().user.as_deref(), Some("ann"));
        assert_eq!(parse("redis://[::1]:7").unwrap().address(), "[::1]:7");
        assert_eq!(parse("redis://10.0.0.1").unwrap().port, 6379);
    }

    #[test]
    fn the_password_comes_from_url_file_or_environment() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from the file\n").unwrap();
        let path = file.path().display();
        assert_eq!(password(&parse(&format!("redis://h?password-file={path}")).unwrap()), "from the file");
        assert_eq!(password(&parse("redis://h").unwrap()), "from the environment");
        assert_eq!(password(&parse("redis://:own@h").unwrap()), "own");
        assert!(matches!(
            parse(&format!("redis://:own@h?password-file={path}")),
            Err(EndpointError::Twice("password"))
        ));
    }

    #[test]
    fn shows_no_password() {
        let endpoint = parse("redis://ann:hunter2@h").unwrap();
        assert_eq!(endpoint.to_string(), "redis://h:6379");
        assert!(!format!("{endpoint:?} {endpoint:#?}").contains("hunter2"));
        assert!(!format!("{:?}", EndpointFile::from("redis://ann:hunter2@h".to_owned())).contains("hunter2"));
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        let refusal = |url: &str| parse(url).unwrap_err().to_string();
        assert!(refusal("10.0.0.1:7000").contains("URL"));
        assert!(refusal("http://h").contains("`http:`"));
        assert!(refusal("redis://h/3").contains("database"));
        assert!(refusal("redis://h?color=red").contains("`color`"));
        assert!(refusal("redis://h?ca=x.pem").contains("isn't rediss"));
        assert!(refusal("rediss://h?ca=/nowhere.pem").contains("/nowhere.pem"));
        assert!(refusal("rediss://h?cert=/nowhere.pem").contains("key"));
    }
}
