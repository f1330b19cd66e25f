//! Who gets the answer to a copy: nobody.

use std::io;

use ringward_http::{
    BodyFraming, ResponseHead,
    write::{ResponseFraming, WriteError},
};

use crate::{client_side::Sink, compression::Recoded, relay::Plan};

/// Takes an answer and drops it, up to a bound.
#[derive(Default)]
pub(crate) struct Nobody {
    bytes: usize,
}

impl Sink for Nobody {
    async fn ask_for_body(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn interim(&mut self, _plan: &Plan<'_>, _out: &mut Vec<u8>, _head: &ResponseHead) {}

    fn head(
        &mut self,
        plan: &Plan<'_>,
        _out: &mut Vec<u8>,
        head: &ResponseHead,
        keep_alive: bool,
        _recoded: Option<&Recoded>,
    ) -> Result<ResponseFraming, WriteError> {
        plan.progress.status.set(head.status());
        Ok(ResponseFraming { body: BodyFraming::None, keep_alive })
    }

    /// A copy asks for no other protocol.
    fn switch(
        &mut self,
        _plan: &Plan<'_>,
        _out: &mut Vec<u8>,
        head: &ResponseHead,
        _protocol: &str,
    ) -> Result<u16, WriteError> {
        Ok(head.status())
    }

    fn end<'t>(
        &mut self,
        _out: &mut Vec<u8>,
        trailers: impl Iterator<Item = (&'t str, &'t [u8])>,
        _rechunk: bool,
    ) {
        trailers.for_each(drop);
    }

    fn is_pending(&self, _last: bool) -> bool {
        false
    }

    async fn send(&mut self, plain: &[u8], _last: bool, _progressed: impl Fn()) -> io::Result<()> {
        self.bytes += plain.len();
        match self.bytes > ANSWER_BYTES_MAX {
            true => Err(io::ErrorKind::WriteZero.into()),
            false => Ok(()),
        }
    }
}

/// How much of an answer is read so that its connection can be used again: about what a new connection costs.
const ANSWER_BYTES_MAX: usize = 1 << 20;
