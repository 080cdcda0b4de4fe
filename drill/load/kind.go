package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
)

// Kinds of errors. A bad HTTP status is "status-NNN".
const (
	KindTimeout     = "timeout"
	KindRefused     = "refused"
	KindReset       = "reset"
	KindUnreachable = "unreachable"
	KindDNS         = "dns"
	KindEOF         = "eof"
	KindAnswer      = "answer" // something answered, but not as asked
	KindOther       = "other"
)

// errAnswer marks an answer that is not what was asked for.
var errAnswer = errors.New("unexpected answer")

// statusError is a bad HTTP status with the beginning of its body.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.text) }

// KindOf sorts an error into one of the kinds; nil gives "".
func KindOf(err error) string {
	var dns *net.DNSError
	var rpc grpcError
	var bad statusError
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errAnswer):
		return KindAnswer
	case errors.As(err, &dns):
		return KindDNS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return KindTimeout
	case errors.As(err, &bad):
		return fmt.Sprintf("status-%d", bad.code)
	case errors.As(err, &rpc):
		return rpc.kind()
	case errors.Is(err, syscall.ECONNREFUSED):
		return KindRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return KindReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return KindUnreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed idle connection"):
		return KindEOF
	}
	return KindOther
}
