package proxy

import (
	"io"
	"maps"
	"net/http"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// maxReplay bounds in bytes what is kept of a body so that the request can be
// sent again. A longer body is passed on just the same, and never sent twice.
const maxReplay = 64 << 10

// replay is a request body that can begin anew as long as no more than
// maxReplay bytes have been read of it. Its source is read in a goroutine of
// its own, and only when an attempt asks for bytes: so an attempt can be given
// up while the caller is silent, and what then comes is there for the next.
type replay struct {
	in     *http.Request
	source io.Reader // nil: no body

	mu      sync.Mutex
	tail    http.Header // the trailers as far as they are known; nil: there are none
	last    *replayBody // of the latest attempt
	kept    []byte
	err     error // how source ended
	reading bool
	ready   chan struct{} // closed and replaced after each read of source
	keeping bool
	lost    bool // bytes were passed on that are not kept
}

func newReplay(r *http.Request) *replay {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return &replay{}
	}
	return &replay{in: r, tail: trailers(r), source: r.Body, keeping: true, ready: make(chan struct{})}
}

// next returns the body for one attempt, from the beginning, and the trailers
// that are complete when it has been read to its end. The attempt before gets
// nothing more: its connection may go on reading for a while, and must not take
// what belongs to this one.
func (r *replay) next() (io.ReadCloser, http.Header) {
	if r.source == nil {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		_ = r.last.Close()
	}
	r.last = &replayBody{of: r, closed: make(chan struct{}), trailer: maps.Clone(r.tail)}
	return r.last, r.last.trailer
}

// trailers returns the trailers of a request as far as they may pass. Before the
// body's end they have no values. nil says that there will be none.
func trailers(in *http.Request) http.Header {
	if in.ContentLength >= 0 && len(in.Trailer) == 0 {
		return nil
	}
	out := http.Header{}
	for name, values := range in.Trailer {
		if httpguts.ValidTrailerHeader(name) && !tellsIdentity(name) {
			out[name] = values
		}
	}
	return out
}

// rewind reports whether the body can be sent again from its beginning.
func (r *replay) rewind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost && (r.err == nil || r.err == io.EOF)
}

// stop keeps nothing any more: the request will not be sent again.
func (r *replay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = false
}

// read reads once from source.
func (r *replay) read() {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := r.source.Read(*buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, (*buf)[:n]...)
	if r.err, r.reading = err, false; err == io.EOF && r.tail != nil {
		r.tail = trailers(r.in) // only now: until here, reading writes them
	}
	close(r.ready)
	r.ready = make(chan struct{})
}

// replayBody is the body of one attempt.
type replayBody struct {
	of      *replay
	off     int // how much of kept this attempt has had
	trailer http.Header
	once    sync.Once
	closed  chan struct{}
}

// Read gives what is kept, then what comes from the caller.
func (b *replayBody) Read(p []byte) (int, error) {
	for {
		n, err, wait := b.take(p)
		if wait == nil {
			return n, err
		}
		select {
		case <-wait:
		case <-b.closed:
			return 0, http.ErrBodyReadAfterClose
		}
	}
}

// take gives bytes that are there, or else something to wait for.
func (b *replayBody) take(p []byte) (n int, err error, wait <-chan struct{}) {
	r := b.of
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose, nil
	default:
	}
	switch {
	case b.off < len(r.kept):
		n = copy(p, r.kept[b.off:])
		b.off += n
		b.forget()
		return n, nil, nil
	case r.err != nil:
		maps.Copy(b.trailer, r.tail)
		return 0, r.err, nil
	case !r.reading:
		r.reading = true
		go r.read()
	}
	return 0, nil, r.ready
}

// forget drops what this attempt has had, where it is not to be kept.
func (b *replayBody) forget() {
	r := b.of
	if r.keeping && len(r.kept) > maxReplay {
		r.keeping = false
	}
	if !r.keeping && b.off == len(r.kept) {
		r.kept, b.off, r.lost = r.kept[:0], 0, true
	}
}

// Close ends this attempt's reading; the source stays open for the next.
func (b *replayBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}
