package proxy

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/dataplane/proxy/upstream"
)

// answer passes a response on as it comes: every piece that arrives is flushed.
func (e *exchange) answer(got *upstream.Exchange) {
	res := got.Response
	e.code = res.StatusCode
	e.grpc = res.Header.Get("Grpc-Status")
	if res.StatusCode == http.StatusSwitchingProtocols {
		e.switchProtocols(got)
		return
	}
	defer func() { _ = res.Body.Close() }()
	e.writeHead(res)
	if res.ContentLength == 0 && len(res.Trailer) == 0 {
		return // nothing follows; gRPC's trailers-only answer must end with its head
	}
	rc := http.NewResponseController(e.w)
	if rc.Flush() != nil {
		e.flags = "DC"
		return
	}
	if err := e.copyBody(res.Body, rc); err != nil {
		panic(http.ErrAbortHandler) // tell the caller that the rest is missing
	}
	e.writeTrailers(res)
}

func (e *exchange) writeHead(res *http.Response) {
	h := e.w.Header()
	endHop(res.Header, "")
	maps.Copy(h, res.Header)
	h.Del("Te")
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // else net/http guesses one
	}
	if !e.http.PassServer {
		h.Set("Server", e.http.ServerName)
	}
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	e.w.WriteHeader(res.StatusCode)
}

// copyBody returns an error when the upstream breaks off. When the caller does,
// there is nobody left to tell.
func (e *exchange) copyBody(body io.Reader, rc *http.ResponseController) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if _, werr := e.w.Write((*buf)[:n]); werr != nil || rc.Flush() != nil {
				e.flags = "DC"
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			e.flags = "UC"
			return err
		}
	}
}

func (e *exchange) writeTrailers(res *http.Response) {
	announced := map[string]bool{}
	for _, v := range e.w.Header()["Trailer"] {
		announced[v] = true
	}
	for name, values := range res.Trailer {
		if name == "Grpc-Status" && len(values) > 0 {
			e.grpc = values[0]
		}
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		e.w.Header()[name] = values
	}
}

// switchProtocols gives both connections to each other.
func (e *exchange) switchProtocols(got *upstream.Exchange) {
	up, ok := got.Response.Body.(io.ReadWriteCloser)
	if !ok || e.upgrade == "" || !strings.EqualFold(got.Response.Header.Get("Upgrade"), e.upgrade) {
		_ = got.Response.Body.Close()
		e.reply(http.StatusBadGateway, "upstream switched to another protocol than asked")
		return
	}
	defer func() { _ = up.Close() }()
	conn, brw, err := http.NewResponseController(e.w).Hijack()
	if err != nil {
		e.reply(http.StatusInternalServerError, "take over the connection: "+err.Error())
		return
	}
	defer func() { _ = conn.Close() }()
	got.Response.Body = nil
	endHop(got.Response.Header, e.upgrade)
	if got.Response.Write(brw) != nil || brw.Flush() != nil {
		return
	}
	pipe(conn, brw, up)
}

// pipe copies both ways until either side ends.
func pipe(conn net.Conn, buffered io.Reader, up io.ReadWriteCloser) {
	done := make(chan struct{}, 2)
	run := func(to io.Writer, from io.Reader) {
		_, _ = copyBuffered(to, from)
		done <- struct{}{}
	}
	go run(up, buffered)
	go run(conn, up)
	<-done
	_ = conn.Close()
	_ = up.Close()
	<-done
}

// fail answers for a request that no host answered.
func (e *exchange) fail(err error, attempts int) {
	if e.in.Context().Err() != nil {
		e.flags, e.code = "DC", 499 // nobody is there to read it
		panic(http.ErrAbortHandler)
	}
	prefix := "upstream connect error or disconnect/reset before headers. "
	if attempts > 1 {
		prefix += "retried and the latest "
	}
	var connect *upstream.ConnectError
	var reset *upstream.ResetError
	isConnect, isReset := errors.As(err, &connect), errors.As(err, &reset)
	switch {
	case errors.Is(err, upstream.ErrUnknown):
		e.flags = "NC"
		e.reply(http.StatusServiceUnavailable, err.Error())
	case errors.Is(err, upstream.ErrOverflow):
		e.flags = "UO"
		e.w.Header().Set("X-Envoy-Overloaded", "true")
		e.reply(http.StatusServiceUnavailable, prefix+"reset reason: overflow")
	case errors.Is(err, upstream.ErrLoop):
		e.flags = "UH"
		e.reply(http.StatusLoopDetected, "no healthy upstream: "+err.Error())
	case isTimeout(err) && !isConnect:
		e.flags = "UT"
		e.reply(http.StatusGatewayTimeout, "upstream request timeout")
	case errors.Is(err, upstream.ErrNoHealthy):
		e.flags = "UH"
		e.reply(http.StatusServiceUnavailable, noHealthy(err))
	case isConnect:
		e.flags = "UF"
		if h := e.http.Unreached; h.Name != "" {
			e.w.Header().Set(h.Name, h.Value)
		}
		e.reply(http.StatusServiceUnavailable, prefix+"reset reason: remote connection failure, transport failure reason: "+connect.Error())
	case isReset:
		e.flags = "UC"
		e.reply(http.StatusServiceUnavailable, prefix+"reset reason: connection termination: "+reset.Error())
	default:
		e.flags = "UF"
		e.reply(http.StatusServiceUnavailable, prefix+"reset reason: "+err.Error())
	}
}

func noHealthy(err error) string {
	text := upstream.ErrNoHealthy.Error()
	var connect *upstream.ConnectError
	if errors.As(err, &connect) {
		text += "; last: " + connect.Error()
	}
	return text
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// reply answers in the proxy's own name. gRPC callers get a status that their
// library understands.
func (e *exchange) reply(status int, text string) {
	h := e.w.Header()
	h.Set("Server", e.http.ServerName)
	e.code = status
	if strings.HasPrefix(e.in.Header.Get("Content-Type"), "application/grpc") {
		e.grpc = grpcStatus(status)
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", e.grpc)
		h.Set("Grpc-Message", grpcMessage(text))
		e.code = http.StatusOK
		e.w.WriteHeader(http.StatusOK)
		return
	}
	h.Set("Content-Type", "text/plain")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	e.w.WriteHeader(status)
	_, _ = io.WriteString(e.w, text)
}

// grpcStatus maps an HTTP status as gRPC's own table does
// (grpc/doc/http-grpc-status-mapping.md).
func grpcStatus(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "13"
	case http.StatusForbidden:
		return "7"
	case http.StatusNotFound:
		return "12"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "14"
	default:
		return "2"
	}
}

// grpcMessage encodes what a header must not hold.
func grpcMessage(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(strconv.FormatUint(uint64(c)+0x100, 16)[1:]))
		}
	}
	return b.String()
}
