//! nginx, HAProxy and OpenSSL as upstreams.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringward_testkit::{DEADLINE, Process, eventually, free_port};

use super::Scene;
use super::support::program;

/// A running server. Ends when dropped.
pub(super) struct Server {
    _process: Process,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts what `command` makes of a port. Another may take the port before it does.
    #[track_caller]
    fn start(command: impl Fn(SocketAddr) -> Command) -> Server {
        let mut said = String::new();
        for _ in 0..5 {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let mut process = Process::start(&mut command(address));
            eventually(DEADLINE, "the server listens or ends", || {
                !process.is_running() || TcpStream::connect(address).is_ok()
            });
            if process.is_running() {
                return Server { _process: process, address };
            }
            said = process.stdout() + &process.stderr();
        }
        panic!("the server does not start: {said}");
    }

    /// nginx, which says who it thinks we are. It asks for a certificate of ours and closes each connection after two requests.
    pub(super) fn nginx(scene: &Scene, keys: &str) -> Server {
        let directory = scene.builder.pki().path().to_owned();
        Server::start(|address| nginx(&directory, address, "ssl", keys))
    }

    /// nginx, which says on `/protocol` what is spoken and on which connection: HTTP/2, or nothing but HTTP/1.1.
    pub(super) fn nginx_speaking(scene: &Scene, http2: bool) -> Server {
        let directory = scene.builder.pki().path().to_owned();
        Server::start(|address| nginx_speaking(&directory, address, http2))
    }

    /// The same in place of another, at its address.
    pub(super) fn replace(self, directory: &Path, http2: bool) -> Server {
        let address = self.address;
        drop(self);
        let process = Process::start(&mut nginx_speaking(directory, address, http2));
        eventually(DEADLINE, "nginx listens again", || TcpStream::connect(address).is_ok());
        Server { _process: process, address }
    }

    /// HAProxy with a certificate of ours required, in front of a plain server, or saying itself who it thinks we are.
    pub(super) fn haproxy(scene: &Scene, bind: &str, behind: Option<SocketAddr>) -> Server {
        let directory = scene.builder.pki().path().to_owned();
        let backend = match behind {
            Some(address) => format!("default_backend plain\nbackend plain\nserver plain {address}\n"),
            None => "http-request return status 200 content-type text/plain lf-string \
                     \"%[ssl_c_s_dn(cn)]|%[ssl_fc_sni]|%[ssl_fc_is_resumed]|%[ssl_fc_protocol]|%[ssl_fc_alpn]\"\n"
                .to_owned(),
        };
        let file = |name: &str| directory.join(name).display().to_string();
        Server::start(|address| {
            let text = format!(
                "defaults\nmode http\ntimeout connect 20s\ntimeout client 60s\ntimeout server 60s\nfrontend tls\n\
                 bind {address} ssl crt {} ca-file {} verify required {bind}\n{backend}",
                file("server-both.pem"),
                file("up-ca.pem"),
            );
            let config: PathBuf = directory.join(format!("haproxy-{}.cfg", address.port()));
            std::fs::write(&config, text).expect("write the configuration");
            let mut haproxy = program("haproxy", "haproxy");
            haproxy.arg("-db").arg("-f").arg(config);
            haproxy
        })
    }

    /// OpenSSL's server with these options, which answers each request with a page.
    pub(super) fn openssl(directory: &Path, options: &[&str]) -> Server {
        Server::start(|address| {
            let mut server = program("openssl", "openssl");
            server
                .current_dir(directory)
                .args(["s_server", "-quiet", "-www", "-accept"])
                .arg(address.to_string());
            server
                .args(["-cert", "server.pem", "-cert_chain", "server.pem", "-key", "server.key"])
                .args(options);
            server
        })
    }
}

fn nginx_speaking(directory: &Path, address: SocketAddr, http2: bool) -> Command {
    let keys =
        "keepalive_requests 100000;\nlocation = /protocol { return 200 \"$server_protocol $connection\"; }";
    nginx(directory, address, if http2 { "ssl http2" } else { "ssl" }, keys)
}

fn nginx(directory: &Path, address: SocketAddr, listen: &str, keys: &str) -> Command {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {kind}-temp;\n"))
        .concat();
    let text = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n\
         access_log off;\n{temporary}keepalive_requests 2;\nserver {{\nlisten {address} {listen};\n\
         ssl_certificate server.pem;\nssl_certificate_key server.key;\n\
         ssl_client_certificate up-ca.pem;\nssl_verify_client on;\nssl_protocols TLSv1.3;\n{keys}\n\
         location / {{ return 200 \
         \"$ssl_client_s_dn|$ssl_server_name|$ssl_session_reused|$ssl_protocol\"; }}\n}}\n}}\n"
    );
    let file = directory.join(format!("nginx-{}.conf", address.port()));
    std::fs::write(&file, text).expect("write the configuration");
    let mut nginx = program("nginx", "nginx");
    nginx.arg("-p").arg(directory).arg("-e").arg("stderr").arg("-c").arg(file);
    nginx
}
