//! HAProxy: upstream connections are shared by all clients; the policy is ACLs on the common name.

use std::{fs, io};

use super::peer::{About, Prepared, Setting, Source};

pub(super) const ABOUT: About = About {
    name: "haproxy",
    program: "haproxy",
    variable: "HAPROXY_BIN",
    version: &["-v"],
    source: Source::Apt("haproxy"),
    prepare,
};

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    let chain = fs::read_to_string(&setting.files.server_chain)?;
    let key = fs::read_to_string(&setting.files.server_key)?;
    setting.write("server.pem", &(chain + &key))?;
    let path = setting.write("haproxy.cfg", &config(setting))?;
    Ok(Prepared::new(["-db".into(), "-f".into(), path.into()]))
}

fn config(setting: &Setting<'_>) -> String {
    let Setting { listen, upstream, workers, connections_max, .. } = setting;
    let (dir, ca) = (setting.dir.display(), setting.files.client_ca.display());
    let policy = if setting.policy { POLICY } else { "" };
    format!(
        r#"global
  nbthread {workers}
  maxconn {connections_max}
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.ssl.cachesize 20000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  http-reuse always
frontend front
  bind {listen} backlog 4096 ssl crt "{dir}/server.pem" ca-file "{ca}" verify required alpn h2,http/1.1
{policy}  default_backend back
backend back
  server up {upstream}
"#
    )
}

const POLICY: &str = "  acl a ssl_c_s_dn(cn) -m str client-a
  acl b ssl_c_s_dn(cn) -m str client-b
  http-request allow if a { path_beg /api/ /big/ /upload }
  http-request allow if b { path_beg /public/ }
  http-request deny deny_status 403
";
