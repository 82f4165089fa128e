//! One connection to a server: TCP or TLS, logged in, requests and replies in order.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Credentials, Endpoint};
use crate::resp::{Outgoing, Reply, RespError, decode};

/// Room made for each read, in bytes. Small replies then share one allocation.
const READ_BYTES: usize = 64 << 10;

/// A connection; it reads and writes in [`Connection::poll_ready`] only.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    input: BytesMut,
    output: Outgoing,
    /// TLS may hold back what was written until it is flushed.
    flush: bool,
}

/// Why a connection ended or never came to be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The name has no address.
    #[error("cannot resolve {host}: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        error: io::Error,
    },
    /// Nobody there, or refused.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's answer.
        error: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS with {address} failed: {error}")]
    Tls {
        /// Host and port.
        address: String,
        /// What rustls says.
        error: io::Error,
    },
    /// It took too long.
    #[error("no answer from {address} within {seconds:.1} s")]
    Timeout {
        /// Host and port.
        address: String,
        /// The limit.
        seconds: f32,
    },
    /// AUTH was refused.
    #[error("login refused: {0}; check user and password")]
    Login(String),
    /// The other end closed it.
    #[error("the connection was closed by the other end")]
    Closed,
    /// It broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The other end doesn't speak RESP.
    #[error(transparent)]
    Resp(#[from] RespError),
}

enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Tcp(_)) { "tcp" } else { "tls" })
    }
}

impl Connection {
    /// Resolves, connects and logs in, all within `timeout`.
    ///
    /// # Errors
    /// When any of it fails.
    pub async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<Self, ConnectionError> {
        let opening = async {
            let mut connection = Self::new(Transport::open(endpoint).await?);
            if let Some(credentials) = &endpoint.credentials {
                connection.login(credentials).await?;
            }
            Ok(connection)
        };
        within(timeout, endpoint, opening).await
    }

    fn new(transport: Transport) -> Self {
        Self { transport, input: BytesMut::new(), output: Outgoing::default(), flush: false }
    }

    async fn login(&mut self, credentials: &Credentials) -> Result<(), ConnectionError> {
        let password = credentials.password();
        let password = password.reveal();
        let reply = match &credentials.user {
            Some(user) => self.call(&[b"AUTH", user.as_bytes(), password.as_bytes()]).await?,
            None => self.call(&[b"AUTH", password.as_bytes()]).await?,
        };
        match reply {
            Reply::Error(text) => Err(ConnectionError::Login(text)),
            _ => Ok(()),
        }
    }

    /// Queues a command; [`Connection::poll_ready`] sends it.
    pub fn send(&mut self, args: &[&[u8]]) {
        self.output.command(args);
    }

    /// Queues a command whose last argument is the concatenation of `payload`, which is shared rather than copied.
    pub fn send_with_payload(&mut self, args: &[&[u8]], payload: &[Bytes]) {
        self.output.command_with_payload(args, payload);
    }

    /// The next reply already received.
    ///
    /// # Errors
    /// When what was received isn't RESP.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, RespError> {
        if self.input.is_empty() { Ok(None) } else { decode(&mut self.input) }
    }

    /// Sends what is queued, as far as the other end takes it, and is ready when something was received. With `read` false
    /// nothing is read, which slows the other end down.
    ///
    /// # Errors
    /// When the connection is closed or breaks.
    pub fn poll_ready(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Result<(), ConnectionError>> {
        self.poll_send(context)?;
        if read { self.poll_receive(context) } else { Poll::Pending }
    }

    /// Sends one command and waits for its reply. Only while nothing else is in flight; limit the time around it.
    ///
    /// # Errors
    /// When the connection fails. An error reply is a [`Reply::Error`].
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Reply, ConnectionError> {
        self.send(args);
        self.reply().await
    }

    /// The next reply, to a command queued before.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn reply(&mut self) -> Result<Reply, ConnectionError> {
        loop {
            if let Some(reply) = self.next_reply()? {
                return Ok(reply);
            }
            poll_fn(|context| self.poll_ready(context, true)).await?;
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.output.is_empty() {
            let slices = self.output.slices();
            match self.transport.poll_write_vectored(context, &slices) {
                Poll::Ready(written) => self.output.advance(written?),
                Poll::Pending => return Ok(()),
            }
            self.flush = true;
        }
        if self.flush && self.transport.poll_flush(context)?.is_ready() {
            self.flush = false;
        }
        Ok(())
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        match self.transport.poll_read(context, &mut self.input) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ConnectionError::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// `doing`, or an error when it takes longer than `timeout`.
///
/// # Errors
/// Those of `doing`, and [`ConnectionError::Timeout`].
pub async fn within<T>(
    timeout: Duration,
    endpoint: &Endpoint,
    doing: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    let late = || ConnectionError::Timeout { address: endpoint.address(), seconds: timeout.as_secs_f32() };
    tokio::time::timeout(timeout, doing).await.unwrap_or_else(|_| Err(late()))
}

impl Transport {
    async fn open(endpoint: &Endpoint) -> Result<Self, ConnectionError> {
        let stream = connect(endpoint).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &endpoint.tls else { return Ok(Self::Tcp(stream)) };
        let handshake = TlsConnector::from(tls.client.clone()).connect(tls.server_name.clone(), stream);
        let stream = handshake.await.map_err(|error| ConnectionError::Tls { address: endpoint.address(), error })?;
        Ok(Self::Tls(Box::new(stream)))
    }

    fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Appends to `input`, which has room; says how many bytes.
    fn poll_read(&mut self, context: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
        let read = std::pin::pin!(async {
            match self {
                Self::Tcp(stream) => stream.read_buf(input).await,
                Self::Tls(stream) => stream.read_buf(input).await,
            }
        });
        read.poll(context)
    }
}

/// Tries each address of the host in turn.
async fn connect(endpoint: &Endpoint) -> Result<TcpStream, ConnectionError> {
    let Endpoint { host, port, .. } = endpoint;
    let unresolved = |error| ConnectionError::Resolve { host: host.clone(), error };
    let mut failure = unresolved(io::ErrorKind::NotFound.into());
    for address in tokio::net::lookup_host((host.as_str(), *port)).await.map_err(unresolved)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = ConnectionError::Connect { address: endpoint.address(), error },
        }
    }
    Err(failure)
}
