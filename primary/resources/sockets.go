package resources

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Linux socket options, by number since Envoy takes them so.
const (
	solSocket      = 1
	soMark         = 36
	ipprotoTCP     = 6
	tcpUserTimeout = 18
)

// userTimeout is how long sent bytes may stay unacknowledged before the kernel
// cuts the connection.
const userTimeout = 5 * time.Second

func address(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func markOption(mark int) *corev3.SocketOption {
	return &corev3.SocketOption{
		Description: "mark", Level: solSocket, Name: soMark,
		Value: &corev3.SocketOption_IntValue{IntValue: int64(mark)}, State: corev3.SocketOption_STATE_PREBIND,
	}
}

func userTimeoutOption() *corev3.SocketOption {
	return &corev3.SocketOption{
		Description: "user timeout", Level: ipprotoTCP, Name: tcpUserTimeout,
		Value: &corev3.SocketOption_IntValue{IntValue: userTimeout.Milliseconds()}, State: corev3.SocketOption_STATE_PREBIND,
	}
}

func bindConfig(options ...*corev3.SocketOption) *corev3.BindConfig {
	return &corev3.BindConfig{SocketOptions: options}
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func u32(v uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(v) }

func boolean(v bool) *wrapperspb.BoolValue { return wrapperspb.Bool(v) }
