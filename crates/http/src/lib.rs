//! HTTP/1.1 heads, framing, normalisation and hop-by-hop rules, without any I/O.
