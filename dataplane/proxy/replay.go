package proxy

import (
	"io"
	"net/http"
	"sync"
)

// maxReplay bounds in bytes what is kept of a body so that the request can be
// sent again. A longer body is passed on just the same, and never sent twice.
const maxReplay = 64 << 10

// replay is a request body that can begin anew as long as no more than
// maxReplay bytes have been read of it.
type replay struct {
	source  io.ReadCloser // nil: no body
	reading sync.Mutex    // held while source is read, which may take as long as the caller likes

	mu      sync.Mutex // guards the rest, never for long
	kept    []byte
	err     error // how source ended
	keeping bool
	lost    bool // bytes were passed on that are not kept
	current *replayBody
}

func newReplay(r *http.Request, keep bool) *replay {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return &replay{}
	}
	return &replay{source: r.Body, keeping: keep}
}

// next returns the body for one attempt. The body of an earlier attempt, which
// the transport may still be reading, gives nothing any more.
func (r *replay) next() io.ReadCloser {
	if r.source == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = &replayBody{of: r}
	return r.current
}

// rewind reports whether the body can be sent again from its beginning.
func (r *replay) rewind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source == nil || !r.lost
}

// stop keeps nothing any more: the request will not be sent again.
func (r *replay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = false
}

// replayBody is the body of one attempt.
type replayBody struct {
	of  *replay
	off int // how much of kept this attempt has had
}

// Read gives what is kept, then what comes from the caller.
func (b *replayBody) Read(p []byte) (int, error) {
	if n, err, ok := b.fromKept(p); ok {
		return n, err
	}
	b.of.reading.Lock()
	defer b.of.reading.Unlock()
	if n, err, ok := b.fromKept(p); ok { // an earlier attempt's read has ended
		return n, err
	}
	n, err := b.of.source.Read(p)
	return b.keep(p[:n], err)
}

// fromKept reads what is there already; ok is false where there is nothing.
func (b *replayBody) fromKept(p []byte) (n int, err error, ok bool) {
	r := b.of
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.current != b:
		return 0, http.ErrBodyReadAfterClose, true
	case b.off < len(r.kept):
		n = copy(p, r.kept[b.off:])
		b.off += n
		return n, nil, true
	default:
		return 0, r.err, r.err != nil
	}
}

// keep records what was read. Bytes that an attempt of the past has read are
// for the present one.
func (b *replayBody) keep(p []byte, err error) (int, error) {
	r := b.of
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	switch {
	case r.current != b:
		r.kept = append(r.kept, p...)
		return 0, http.ErrBodyReadAfterClose
	case r.keeping && len(r.kept)+len(p) <= maxReplay:
		r.kept = append(r.kept, p...)
		b.off += len(p)
	default:
		r.lost = r.lost || len(p) > 0
		r.keeping, r.kept, b.off = false, nil, 0
	}
	return len(p), err
}

// Close ends this attempt's reading; the source stays open for the next.
func (b *replayBody) Close() error { return nil }
