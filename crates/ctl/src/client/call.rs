//! Calls: which endpoint they go to, what happens when that one does not answer, and how long they may take.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use http::Uri;
use keelson_api::Error;
use keelson_api::etcdserverpb::AuthenticateRequest;
use keelson_api::etcdserverpb::auth_client::AuthClient;
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint as Transport};
use tonic::{Code, ConnectError, Request, Response, Status};

use super::config::{Config, Login, Ways};
use super::dial::Dial;
use super::endpoint::{Endpoint, Secured};
use crate::exit::{self, Failure, innermost, known};

/// Between two rounds over all endpoints, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts of a call that the cluster could not take.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// How often a call is repeated that may be.
const ATTEMPTS: u32 = 100;

/// Whether a call may be sent again when nobody knows if it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Yes,
    No,
}

/// A connection, and what goes along with every request.
pub type Wire = InterceptedService<Channel, Greeting>;

#[derive(Clone)]
pub struct Greeting {
    token: Option<MetadataValue<Ascii>>,
    /// A stream ends when its member finds itself without a leader.
    require_leader: bool,
}

impl Interceptor for Greeting {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static("3.7"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        if self.require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        Ok(request)
    }
}

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Rc<Shared>,
}

struct Shared {
    dials: Vec<Dial>,
    /// One for each endpoint that was reached.
    channels: RefCell<Vec<Option<Channel>>>,
    /// The endpoint whose turn it is.
    turn: Cell<usize>,
    login: Login,
    token: RefCell<Option<MetadataValue<Ascii>>>,
    ways: Ways,
    limit: Cell<Option<Duration>>,
    /// Why the last attempt to connect failed.
    trouble: RefCell<Option<String>>,
    /// Whether the user knows that.
    told: Cell<bool>,
}

impl Client {
    /// Connects to nobody yet, except to log in.
    pub async fn new(config: Config) -> Result<Self, Failure> {
        if config.endpoints.is_empty() {
            return Err(Failure::new(exit::BAD_CONNECTION, "etcdclient: no available endpoints"));
        }
        let wanted = config.files.wanted()?;
        let mut dials = Vec::new();
        for text in &config.endpoints {
            let endpoint = Endpoint::parse(text)?;
            let tls = match endpoint.secured {
                Secured::Never => None,
                Secured::IfConfigured => wanted.clone(),
                Secured::Always if wanted.is_some() => wanted.clone(),
                Secured::Always => Some(config.files.load()?),
            };
            dials.push(Dial { endpoint, tls });
        }
        let shared = Shared {
            channels: RefCell::new(vec![None; dials.len()]),
            dials,
            turn: Cell::new(0),
            token: RefCell::new(None),
            limit: Cell::new(config.ways.limit),
            trouble: RefCell::new(None),
            told: Cell::new(false),
            login: config.login,
            ways: config.ways,
        };
        let client = Self { shared: Rc::new(shared) };
        client.log_in().await.map_err(|failure| failure.with_code(exit::BAD_CONNECTION))?;
        Ok(client)
    }

    /// Waits as long as it takes from now on.
    pub fn without_limit(self) -> Self {
        self.shared.limit.set(None);
        self
    }

    pub fn ways(&self) -> &Ways {
        &self.shared.ways
    }

    /// The endpoint whose turn it is, as it was given.
    pub fn endpoint(&self) -> String {
        self.shared.dials[self.shared.turn.get()].endpoint.text.clone()
    }

    /// The first endpoint, for what is no call.
    pub fn first(&self) -> Dial {
        self.shared.dials[0].clone()
    }

    /// Sends a request that has one answer, within the limit of this client.
    pub async fn call<Q, A>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl AsyncFn(Wire, Q) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure>
    where
        Q: Clone,
    {
        self.within(self.attempts(repeat, request, send)).await
    }

    async fn attempts<Q, A>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl AsyncFn(Wire, Q) -> Result<Response<A>, Status>,
    ) -> Result<A, Failure>
    where
        Q: Clone,
    {
        let mut attempt = 1;
        loop {
            let wire = self.wire(false).await;
            let status = match send(wire, request.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            self.debug(|| format!("attempt {attempt}: {}", exit::describe(&status)));
            let again = self.may_retry(repeat, &status).await?;
            if !again || attempt >= ATTEMPTS {
                return Err(status.into());
            }
            self.next_endpoint();
            let quorum = self.shared.dials.len() as u32 / 2 + 1;
            if attempt % quorum == 0 {
                sleep(RETRY_PAUSE).await;
            }
            attempt += 1;
        }
    }

    /// Whether it is worth and harmless to send the request once more. A token that has ended is renewed for that.
    async fn may_retry(&self, repeat: Repeat, status: &Status) -> Result<bool, Failure> {
        let error = known(status.message());
        let by_password = matches!(self.shared.login, Login::Password { .. });
        match error {
            Some(Error::UserEmpty | Error::InvalidAuthToken) if by_password => {
                self.log_in_here().await?;
                return Ok(true);
            }
            Some(Error::AuthOldRevision) if !matches!(self.shared.login, Login::Token(_)) => {
                self.log_in_here().await?;
                return Ok(true);
            }
            // Others can answer what a learner may not.
            Some(Error::NotSupportedForLearner) if self.shared.dials.len() > 1 => return Ok(true),
            _ => {}
        }
        // A member that has gone since the last call has not seen this one.
        let others_may = self.shared.dials.len() > 1 && never_sent(status);
        Ok(others_may || (repeat == Repeat::Yes && unavailable(status)))
    }

    /// Runs `work` within the limit of this client.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match self.shared.limit.get() {
            None => work.await,
            Some(limit) => match timeout(limit, work).await {
                Ok(done) => done,
                Err(_) => Err(self.too_late()),
            },
        }
    }

    fn too_late(&self) -> Failure {
        self.tell_trouble();
        Failure::error("context deadline exceeded")
    }

    /// Once is enough.
    fn tell_trouble(&self) {
        if let Some(trouble) = self.shared.trouble.borrow().as_deref()
            && !self.shared.told.replace(true)
        {
            eprintln!("Cannot reach {trouble}; check --endpoints, and the certificates if they are https");
        }
    }

    /// A connection to the endpoint whose turn it is, or to the first after it that can be reached. Waits until there is one.
    pub async fn wire(&self, require_leader: bool) -> Wire {
        let channel = self.channel().await;
        let token = self.shared.token.borrow().clone();
        InterceptedService::new(channel, Greeting { token, require_leader })
    }

    async fn channel(&self) -> Channel {
        let mut pause = FIRST_PAUSE;
        loop {
            for _ in 0..self.shared.dials.len() {
                let at = self.shared.turn.get();
                let open = self.shared.channels.borrow()[at].clone();
                if let Some(channel) = open {
                    return channel;
                }
                match self.connect(&self.shared.dials[at]).await {
                    Ok(channel) => {
                        self.shared.channels.borrow_mut()[at] = Some(channel.clone());
                        self.shared.trouble.replace(None);
                        return channel;
                    }
                    Err(why) => {
                        let trouble = format!("{} ({why})", self.shared.dials[at].endpoint.text);
                        self.debug(|| trouble.clone());
                        self.shared.trouble.replace(Some(trouble));
                        self.next_endpoint();
                    }
                }
            }
            // Who waits without a limit must not wonder why.
            if pause == LONGEST_PAUSE {
                self.tell_trouble();
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self, dial: &Dial) -> Result<Channel, String> {
        let ways = &self.shared.ways;
        // The connector does TLS by itself; to tonic every endpoint is plain, and only the requests say https.
        let authority = dial.endpoint.authority();
        let scheme = if dial.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{authority}").parse::<Uri>().map_err(|e| e.to_string())?;
        let mut transport = Transport::from_shared(format!("http://{authority}")).map_err(|e| e.to_string())?.origin(origin);
        if !ways.dial_timeout.is_zero() {
            transport = transport.connect_timeout(ways.dial_timeout);
        }
        if let Some(probe) = ways.probe() {
            transport = transport.http2_keep_alive_interval(probe).keep_alive_timeout(ways.probe_timeout);
        }
        transport.connect_with_connector(dial.clone()).await.map_err(|e| innermost(&e))
    }

    pub fn next_endpoint(&self) {
        self.shared.turn.set((self.shared.turn.get() + 1) % self.shared.dials.len());
    }

    /// Gets a token, if there is a password to get it with.
    async fn log_in(&self) -> Result<(), Failure> {
        if self.shared.login == Login::Nobody {
            return Ok(());
        }
        let limit = self.shared.ways.dial_timeout;
        if limit.is_zero() {
            return self.log_in_here().await;
        }
        timeout(limit, self.log_in_here()).await.unwrap_or_else(|_| Err(self.too_late()))
    }

    async fn log_in_here(&self) -> Result<(), Failure> {
        let text = match &self.shared.login {
            Login::Nobody => return Ok(()),
            Login::Token(token) => token.clone(),
            Login::Password { user, password } => {
                let request = AuthenticateRequest { name: user.clone(), password: password.clone() };
                let mut auth = AuthClient::new(self.wire(false).await);
                match auth.authenticate(request).await {
                    Ok(response) => response.into_inner().token,
                    Err(status) if known(status.message()) == Some(Error::AuthNotEnabled) => {
                        self.shared.token.replace(None);
                        return Ok(());
                    }
                    Err(status) => return Err(status.into()),
                }
            }
        };
        let token: Result<MetadataValue<Ascii>, _> = text.parse();
        let token = token.map_err(|_| Failure::error("the token has characters that cannot be sent"))?;
        self.shared.token.replace(Some(token));
        Ok(())
    }

    /// Tokens end; a stream is opened with a fresh one.
    pub async fn renew(&self) -> Result<(), Failure> {
        if let Login::Password { .. } = self.shared.login { self.log_in_here().await } else { Ok(()) }
    }

    fn debug(&self, text: impl FnOnce() -> String) {
        if self.shared.ways.debug {
            eprintln!("keelsonctl: {}", text());
        }
    }
}

/// Whether somebody else, or the same later, may do better. tonic calls a connection that broke an unknown error.
pub fn unavailable(status: &Status) -> bool {
    let broken = status.code() == Code::Unknown && status.source().is_some();
    status.code() == Code::Unavailable || broken
}

/// Whether there was no connection to send the request over.
fn never_sent(status: &Status) -> bool {
    let mut reason = status.source();
    while let Some(error) = reason {
        if error.is::<ConnectError>() {
            return true;
        }
        reason = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_found_no_connection_is_known_from_one_that_was_lost_with_its_own() {
        let refused = Status::from_error(Box::new(ConnectError("connection refused".into())));
        assert!(never_sent(&refused) && unavailable(&refused));
        let lost = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert!(!never_sent(&lost) && unavailable(&lost));
        let told = Status::unavailable("etcdserver: leader changed");
        assert!(!never_sent(&told) && unavailable(&told));
    }
}
