//! Passwords and TLS between sites: they work, a wrong one is told, and none of them is ever printed.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use syncer_tests::agent::{Agent, AgentOptions};
use syncer_tests::certificate::{Authority, Certificate};
use syncer_tests::client::Client;
use syncer_tests::members::tell;
use syncer_tests::proxy::{LinkOptions, Proxy, Tls};
use syncer_tests::server::{Server, ServerKind, ServerOptions};
use syncer_tests::{artifact, reply, wait};

const PASSWORD: &str = "s3cret-w0rd";

/// Two sites; the agent of the second reaches the first over TLS, with a certificate of its own.
struct Secured {
    source: Server,
    target: Server,
    proxy: Proxy,
    authority: Authority,
    agent: Certificate,
    _folder: TempDir,
}

impl Secured {
    /// Whoever reaches the source must have a certificate of ours, or need not.
    fn new(kind: ServerKind, is_mutual: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let authority = Authority::new(folder.path(), "Test CA");
        let [site, agent] = ["site.example", "agent.example"].map(|name| authority.sign(name));
        let [source, target] = [1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
        let tls = Tls { bundle: site.bundle, client_authority: is_mutual.then(|| authority.certificate()) };
        let proxy = Proxy::start(&[LinkOptions { name: "tls".to_owned(), target: source.port(), tls: Some(tls) }]);
        Self { source, target, proxy, authority, agent, _folder: folder }
    }

    fn url(&self, ca: &Path, client: Option<&Certificate>, server_name: &str) -> String {
        let port = self.proxy.port("tls");
        let client =
            client.map(|client| format!("&cert={}&key={}", client.certificate.display(), client.key.display()));
        let client = client.unwrap_or_default();
        format!("rediss://127.0.0.1:{port}?ca={}{client}&server-name={server_name}", ca.display())
    }

    fn agent(&self, url: String) -> Agent {
        Agent::start(AgentOptions::beside(self.target.port()).peer_url(1, url))
    }
}

fn arrives(source: &mut Client, target: &mut Client) {
    source.ok("SET k v");
    wait::eventually("the write arrives", || target.text("GET k") == "v");
}

#[test]
fn effects_come_over_mutual_tls() {
    for kind in ServerKind::ALL {
        let sites = Secured::new(kind, true);
        let _agent = sites.agent(sites.url(&sites.authority.certificate(), Some(&sites.agent), "site.example"));
        arrives(&mut sites.source.client(), &mut sites.target.client());
    }
}

/// Where the agent needs no certificate of its own.
#[test]
fn effects_come_over_tls() {
    for kind in ServerKind::ALL {
        let sites = Secured::new(kind, false);
        let ca = sites.authority.certificate();
        let _agent = sites.agent(sites.url(&ca, None, "site.example"));
        arrives(&mut sites.source.client(), &mut sites.target.client());
    }
}

#[test]
fn what_is_wrong_with_tls_is_told() {
    let sites = Secured::new(ServerKind::Valkey9, true);
    let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
    let other = Authority::new(elsewhere.path(), "Other CA");
    let ca = sites.authority.certificate();
    let wrong = [
        ("another CA", sites.url(&other.certificate(), Some(&sites.agent), "site.example")),
        ("another name", sites.url(&ca, Some(&sites.agent), "other.example")),
        ("no certificate of ours", sites.url(&ca, None, "site.example")),
    ];
    sites.source.client().ok("SET k v");
    for (what, url) in wrong {
        let agent = sites.agent(url);
        let tells = || {
            let log = agent.log().to_lowercase();
            ["certificate", "tls"].iter().any(|word| log.contains(word))
        };
        wait::eventually(&format!("the agent tells of {what}"), tells);
        assert_eq!(sites.target.client().text("GET k"), "(nil)", "{what}");
    }
}

/// What the agent's users may run, as docs/AGENT.md says: at its own server, and at its peers'.
const RIGHTS: [&str; 2] = [
    "+syncer.peer +syncer.apply +syncer.sync +syncer.report +syncer.clock +syncer.peers",
    "+syncer.psync +syncer.read +syncer.snapshot +syncer.report +syncer.clock",
];

/// Users that may run no more than that: reading on and full syncs go on as ever, and `check` is content. One password is in a file.
#[test]
fn an_agent_needs_the_rights_that_are_told_and_no_more() {
    let page = include_str!("../../docs/AGENT.md");
    RIGHTS.iter().for_each(|rights| assert!(page.contains(rights), "docs/AGENT.md tells nobody of {rights}"));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("it can be written");
    for kind in ServerKind::ALL {
        let options = |id| ServerOptions::instance(id).module_arg("backlog-size", "1mb");
        let [source, target] = [1, 2].map(|instance| Server::start(kind, options(instance)));
        let (mut one, mut two) = (source.client(), target.client());
        for (client, rights) in [(&mut two, RIGHTS[0]), (&mut one, RIGHTS[1])] {
            client.ok(&format!("ACL SETUSER agent on >{PASSWORD} {rights}"));
            client.ok(&format!("ACL SETUSER looks on >{PASSWORD} {rights} +info +time"));
        }
        let local = |user| format!("redis://{user}@127.0.0.1:{}?password-file={}", target.port(), file.display());
        let peer = |user| format!("redis://{user}:{PASSWORD}@127.0.0.1:{}", source.port());
        let (ok, said) = tell(&["check", "--local", &local("looks"), "--peer", &format!("1={}", peer("looks"))]);
        let is_content = ok && !said.contains("WARN") && said.contains("it is instance 1, as configured");
        let sparse = ["check", "--local", &local("agent"), "--peer", &format!("1={}", peer("agent"))];
        let (ok, warned) = tell(&sparse);
        assert!(ok && warned.contains("WARN peer 1   which instance it is cannot be told: allow INFO"), "{warned}");
        assert_eq!(warned.matches("may run what the agent needs").count(), 2, "{warned}");
        assert!(is_content && said.matches("may run what the agent needs").count() == 2, "{said}");
        let mut agent = Agent::start(AgentOptions::at(local("agent")).peer_url(1, peer("agent")));
        arrives(&mut one, &mut two);
        agent.kill();
        let value = "x".repeat(100_000);
        (0..20).for_each(|key| drop(one.ok(&format!("SET {key} {value}"))));
        agent.restart();
        wait::eventually("the full sync is done", || two.text("DBSIZE") == "21");
        one.ok("SET on streams");
        wait::eventually("and on by the stream", || two.text("GET on") == "streams");
        assert!(!agent.log().contains("NOPERM"), "{}", agent.log());
        // The stream does not need these, so it would go on, and metadata would stay everywhere without a word.
        for (server, right) in [(&source, "syncer.report"), (&target, "syncer.peer"), (&target, "syncer.clock")] {
            server.client().ok(&format!("ACL SETUSER agent -{right}"));
            wait::eventually("the right is missed", || {
                let log = agent.log();
                log.lines().any(|line| line.contains("a right is missing") && line.contains(&format!("'{right}'")))
            });
        }
        let missing = agent.log().matches("a right is missing").count();
        assert_eq!(missing, 3, "each is told once: {}", agent.log());
    }
}

/// Passwords are changed while agents run: it used to be refused until somebody restarted it.
#[test]
fn a_password_file_is_read_again_at_each_login() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").expect("it can be written");
    for kind in ServerKind::ALL {
        std::fs::write(&file, "old\n").expect("it can be written");
        let [source, target] = [1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
        let (mut one, mut two) = (source.client(), target.client());
        one.ok(&format!("ACL SETUSER agent on >old {}", RIGHTS[1]));
        let peer = format!("redis://agent@127.0.0.1:{}?password-file={}", source.port(), file.display());
        let agent =
            Agent::start(AgentOptions::beside(target.port()).peer_url(1, peer).arg("--retry-max-ms").arg("500"));
        arrives(&mut one, &mut two);
        one.ok("ACL SETUSER agent <old >new");
        assert_ne!(one.text("CLIENT KILL USER agent"), "0");
        wait::eventually("the old password is refused", || agent.log().contains("WRONGPASS"));
        std::fs::write(&file, "new\n").expect("it can be written");
        one.ok("SET k rotated");
        wait::eventually("the new one is taken", || two.text("GET k") == "rotated");
    }
}

#[test]
fn passwords_open_and_are_never_printed() {
    for kind in ServerKind::ALL {
        // Set once they are up: the harness looks with a plain PING.
        let [source, target] = [1, 2].map(|instance| Server::start(kind, ServerOptions::instance(instance)));
        for server in [&source, &target] {
            server.client().ok(&format!("CONFIG SET requirepass {PASSWORD}"));
        }
        let opened = |server: &Server| {
            let mut client = server.client();
            client.ok(&format!("AUTH {PASSWORD}"));
            client
        };
        let url = |server: &Server, password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port());
        let agent =
            |password: &str| Agent::start(AgentOptions::at(url(&target, PASSWORD)).peer_url(1, url(&source, password)));

        let wrong = agent("wr0ng-w0rd");
        wait::eventually("the agent tells that the password is wrong", || wrong.log().contains("WRONGPASS"));
        assert!(!wrong.log().contains("wr0ng-w0rd") && !wrong.log().contains(PASSWORD), "{}", wrong.log());
        drop(wrong);

        // From the environment, where the URL has none.
        let by_environment = |password: &str| {
            let bare = format!("redis://127.0.0.1:{}", target.port());
            let mut status = Command::new(artifact::agent());
            let done = status.args(["status", "--local", &bare]).env("SYNCER_LOCAL_PASSWORD", password).output();
            let done = done.expect("the agent can be started");
            let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(!said.contains(password), "{said}");
            (done.status.success(), said)
        };
        assert!(by_environment(PASSWORD).0, "{}", by_environment(PASSWORD).1);
        assert!(!by_environment("wr0ng-w0rd").0);

        let right = agent(PASSWORD);
        arrives(&mut opened(&source), &mut opened(&target));
        assert!(!right.log().contains(PASSWORD), "{}", right.log());
        assert!(!reply::text(&opened(&target).cmd("SYNCER.PEERS")).contains(PASSWORD));
    }
}
