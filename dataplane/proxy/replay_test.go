package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// pieces is a body that comes in pieces, each when it is asked for.
type pieces struct{ left [][]byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	return n, nil
}

func (p *pieces) Close() error { return nil }

// An attempt that was given up takes no byte from the next one, also when its
// connection goes on reading for a while.
func TestGivenUpAttemptTakesNothing(t *testing.T) {
	body := &pieces{}
	var want []byte
	for i := range 8 {
		piece := bytes.Repeat([]byte{byte('a' + i)}, 16<<10)
		body.left, want = append(body.left, piece), append(want, piece...)
	}
	r := newReplay(&http.Request{Body: body, ContentLength: int64(len(want))})
	first, _ := r.next()
	buf := make([]byte, 16<<10)
	if _, err := io.ReadFull(first, buf); err != nil {
		t.Fatal(err)
	}
	if !r.rewind() {
		t.Fatal("cannot begin anew")
	}
	second, _ := r.next()
	got := make([]byte, 8<<10)
	if _, err := io.ReadFull(second, got); err != nil {
		t.Fatal(err)
	}
	for { // the first attempt's connection does not know yet
		if _, err := first.Read(buf); err != nil {
			if errors.Is(err, io.EOF) {
				t.Error("a given-up attempt read to the end")
			}
			break
		}
	}
	rest, err := io.ReadAll(second)
	if err != nil {
		t.Fatal(err)
	}
	if got = append(got, rest...); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came as %d, or others", len(want), len(got))
	}
}

// What a caller breaks off is never sent as if it were whole.
func TestBrokenBody(t *testing.T) {
	broken := errors.New("broken off")
	r := newReplay(&http.Request{Body: io.NopCloser(io.MultiReader(strings.NewReader("part"), errReader{broken})), ContentLength: 100})
	body, _ := r.next()
	if got, err := io.ReadAll(body); string(got) != "part" || !errors.Is(err, broken) {
		t.Errorf("%q %v", got, err)
	}
	if r.rewind() {
		t.Error("sent again")
	}
}

// The trailers come with the end of the body, to the attempt that reads it; one
// that begins while the caller is still sending does not look at them.
func TestTrailersOfTheAttempt(t *testing.T) {
	req := &http.Request{ContentLength: -1, Trailer: http.Header{"X-Sum": nil}}
	pr, pw := io.Pipe()
	req.Body = &ending{pr, func() { req.Trailer.Set("X-Sum", "5") }}
	r := newReplay(req)
	first, _ := r.next()
	reading := make(chan error, 1)
	go func() {
		_, err := first.Read(make([]byte, 1))
		reading <- err
	}()
	go func() {
		_, _ = io.WriteString(pw, "12345")
		_ = pw.Close()
	}()
	second, trailer := r.next()
	if got, err := io.ReadAll(second); string(got) != "12345" || err != nil || trailer.Get("X-Sum") != "5" {
		t.Errorf("%q %v %v", got, err, trailer)
	}
	<-reading
}

// ending does something when its source has ended.
type ending struct {
	io.ReadCloser
	atEnd func()
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err == io.EOF {
		e.atEnd()
	}
	return n, err
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }
