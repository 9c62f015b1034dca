//! One connection's way into plain HTTP: the gateway under `/v3/`, and everything else by its path.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response};

use super::{Download, Upload, access, route};
use crate::conn::{Place, Secure, Surface};
use crate::gateway::{self, Gateway, websocket};
use crate::grpc::Ends;
use crate::member::Member;

/// What a connection comes in by.
pub struct Front {
    /// Who is called.
    pub member: Arc<Member>,
    /// What the port is for.
    pub surface: Surface,
    /// What the connection is between.
    pub ends: Ends,
    /// The way to the calls.
    pub gateway: Gateway,
    secure: Option<Secure>,
    /// Given up when the connection has ended, and with it all that came of it.
    _place: Option<Place>,
}

impl Front {
    /// The front of a connection that has just come in; `None` instead of a place if it does not come from outside.
    pub fn new(member: Arc<Member>, surface: Surface, ends: Ends, secure: Option<Secure>, place: Option<Place>) -> Self {
        Self { gateway: Gateway::of(member.clone(), ends), member, surface, ends, secure, _place: place }
    }

    /// The user that the client's certificate names.
    pub fn certificate_name(&self) -> Option<Arc<str>> {
        self.secure.as_ref()?.certificate_name.clone()
    }

    /// Whether a path is the gateway's.
    pub fn is_gateways(&self, path: &str) -> bool {
        self.takes_clients()
            && self.member.config.web.gateway
            && (path.starts_with(gateway::PATH) || path.starts_with(access::OLD))
    }

    /// The user that the certificate of a request to the gateway names, in vain: the gateway makes calls of its own, which
    /// come with a token or for nobody.
    fn unheeded_user(&self, path: &str) -> Option<Arc<str>> {
        if !self.is_gateways(path) || !self.member.state.auth_is_on() {
            return None;
        }
        self.certificate_name().filter(|name| !name.is_empty())
    }

    const fn takes_clients(&self) -> bool {
        matches!(self.surface, Surface::Client | Surface::Http)
    }

    /// Answers a request of HTTP/1, which may want to become a websocket.
    pub async fn answer_http1(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Download> {
        let upgrade = websocket::is_asked_for(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        self.answer(head, Upload::Http1(body), upgrade).await
    }

    /// Answers a request.
    pub async fn answer(self: Arc<Self>, mut head: Parts, body: Upload, upgrade: Option<OnUpgrade>) -> Response<Download> {
        if !self.takes_clients() {
            return self.plain(&head).await;
        }
        access::renew_path(&mut head);
        let web = &self.member.config.web;
        if let Some(refusal) = access::refuse(web, self.secure.is_some(), &head) {
            return refusal;
        }
        if let Some(user) = self.unheeded_user(head.uri.path()) {
            return access::refuse_user(&user);
        }
        let mut answer = if head.method == Method::OPTIONS {
            Response::new(Download::Whole(Default::default()))
        } else if self.is_gateways(head.uri.path()) {
            match upgrade {
                Some(upgrade) => return websocket::accept(self.clone(), upgrade, &head),
                None => self.gateway.serve(&head, body).await,
            }
        } else {
            self.plain(&head).await
        };
        access::tell_browsers(web, &head.headers, answer.headers_mut());
        answer
    }

    async fn plain(&self, head: &Parts) -> Response<Download> {
        let query = head.uri.query().unwrap_or("");
        route(&self.member, self.surface, &head.method, head.uri.path(), query).await.map(Download::Whole)
    }
}
