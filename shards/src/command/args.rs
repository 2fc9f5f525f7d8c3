//! The arguments of one command: byte ranges into the buffer they arrived in, never copied to be read.

/// Borrowed arguments; `args[0]` is the command's name. Copying it copies two slices.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Args<'a> {
    /// `ranges` are (start, end) offsets into `bytes`; every range must lie within it.
    pub fn new(bytes: &'a [u8], ranges: &'a [(u32, u32)]) -> Self {
        debug_assert!(ranges.iter().all(|&(start, end)| start <= end && end as usize <= bytes.len()));
        Args { bytes, ranges }
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `index`, or `None` past the end.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.ranges.get(index)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// The argument at `index`. Handlers may rely on the arity check for the positions it covers; past the end it is empty.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// The arguments from `index` on (empty when there are none).
    pub fn from(&self, index: usize) -> Args<'a> {
        Args { bytes: self.bytes, ranges: self.ranges.get(index..).unwrap_or_default() }
    }

    /// The arguments `start..end`, clipped to what is there.
    pub fn slice(&self, start: usize, end: usize) -> Args<'a> {
        let end = end.min(self.ranges.len());
        Args { bytes: self.bytes, ranges: self.ranges.get(start..end).unwrap_or_default() }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + ExactSizeIterator + Clone + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |&(start, end)| &bytes[start as usize..end as usize])
    }

    /// Whether the argument at `index` is `word` (ASCII, without regard to case). `word` is given in lower case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// An owned copy, for commands that outlive the buffer they came in (queued, blocked, sent to another core).
    pub fn to_buf(&self) -> ArgsBuf {
        ArgsBuf::of(self.iter())
    }
}

impl std::ops::Index<usize> for Args<'_> {
    type Output = [u8];
    #[inline]
    fn index(&self, index: usize) -> &[u8] {
        self.at(index)
    }
}

/// Owned arguments in one allocation for the bytes and one for the ranges.
#[derive(Clone, Default, Debug)]
pub struct ArgsBuf {
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl ArgsBuf {
    pub fn push(&mut self, arg: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(arg);
        self.ranges.push((start, self.bytes.len() as u32));
    }

    pub fn from_slices(args: &[&[u8]]) -> Self {
        Self::of(args.iter().copied())
    }

    fn of<'a>(args: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Self {
        let bytes = args.clone().map(<[u8]>::len).sum();
        let mut buf = ArgsBuf { bytes: Vec::with_capacity(bytes), ranges: Vec::with_capacity(args.len()) };
        args.for_each(|arg| buf.push(arg));
        buf
    }

    pub fn args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, ranges: &self.ranges }
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }
}
