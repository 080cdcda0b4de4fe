// Package upstream is the calling side of the data plane: xds clusters with
// their hosts, the choice among hosts, outlier detection, connections with
// mTLS, and HTTP connection pools.
package upstream

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors that decide what the caller answers.
var (
	ErrNoHealthy = errors.New("no healthy upstream")
	ErrOverflow  = errors.New("overflow")
	ErrUnknown   = errors.New("unknown xds cluster")
	ErrLoop      = errors.New("refused to call this proxy's own listener")
)

// ConnectError says that no connection to Addr could be made; no byte of the
// caller's was sent. Transport tells that TCP was up and TLS failed.
type ConnectError struct {
	Addr      netip.AddrPort
	Transport bool
	Err       error
}

func (e *ConnectError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Addr, e.Err) }
func (e *ConnectError) Unwrap() error { return e.Err }

// ResetError says that an exchange broke off before a response.
type ResetError struct {
	Addr netip.AddrPort
	// Unsent: the server cannot have acted on the request.
	Unsent bool
	// Refused: the server said that it did not (REFUSED_STREAM, GOAWAY).
	Refused bool
	// Reused: the connection had served requests before, so that this may be
	// no more than a server closing an idle connection.
	Reused bool
	Err    error
}

func (e *ResetError) Error() string { return fmt.Sprintf("reset by %s: %v", e.Addr, e.Err) }
func (e *ResetError) Unwrap() error { return e.Err }
