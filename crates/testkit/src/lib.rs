//! Test double of everything around the proxy: certificate authority, clients, scripted upstream.
