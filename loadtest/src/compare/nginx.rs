//! nginx: bodies are relayed as they come, upstream connections are kept; the policy is a `map` of the subject and the path.

use std::io;

use rustix::process::geteuid;

use super::peer::{About, Prepared, Setting, Source};

pub(super) const ABOUT: About = About {
    name: "nginx",
    program: "nginx",
    variable: "NGINX_BIN",
    version: &["-v"],
    source: Source::Apt("nginx"),
    prepare,
};

fn prepare(setting: &Setting<'_>) -> io::Result<Prepared> {
    let path = setting.write("nginx.conf", &config(setting))?;
    let errors = setting.dir.join("error.log");
    Ok(Prepared::new(["-e".into(), errors.into(), "-c".into(), path.into()]))
}

fn config(setting: &Setting<'_>) -> String {
    let Setting { listen, upstream, workers, connections_max, .. } = setting;
    let dir = setting.dir.display();
    let files = &setting.files;
    let [chain, key, ca] = [&files.server_chain, &files.server_key, &files.client_ca].map(|p| p.display());
    // Started by root it would serve as another user, who may not look into our directory.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    // One for the client, one for the upstream.
    let connections = 2 * connections_max;
    let (map, check) = match setting.policy {
        true => (POLICY, "if ($allowed = 0) { return 403; }"),
        false => ("", ""),
    };
    format!(
        r#"{user}
worker_processes {workers};
daemon off;
pid "{dir}/nginx.pid";
error_log "{dir}/error.log" error;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path "{dir}/body";
  proxy_temp_path "{dir}/proxy";
  fastcgi_temp_path "{dir}/fastcgi";
  uwsgi_temp_path "{dir}/uwsgi";
  scgi_temp_path "{dir}/scgi";
  {map}
  upstream up {{
    server {upstream};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {listen} ssl http2 backlog=4096;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    ssl_certificate "{chain}";
    ssl_certificate_key "{key}";
    ssl_client_certificate "{ca}";
    ssl_verify_client on;
    ssl_verify_depth 2;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    ssl_session_timeout 1h;
    client_max_body_size 0;
    location / {{
      {check}
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_buffer_size 16k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
    }}
  }}
}}
"#
    )
}

/// The same as the others': who, by the common name, and where to.
const POLICY: &str = r#"map $ssl_client_s_dn $who {
    default none;
    "~(^|,)CN=client-a(,|$)" a;
    "~(^|,)CN=client-b(,|$)" b;
  }
  map "$who:$uri" $allowed {
    default 0;
    "~^a:/(api/|big/|upload)" 1;
    "~^b:/public/" 1;
  }"#;
