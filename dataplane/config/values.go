package config

import (
	"fmt"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func duration(path string, d *durationpb.Duration, absent time.Duration) (time.Duration, error) {
	if d == nil {
		return absent, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		return 0, fmt.Errorf("%s: not a duration of zero or more", path)
	}
	return d.AsDuration(), nil
}

func number(v *wrapperspb.UInt32Value, absent uint32) uint32 {
	if v == nil {
		return absent
	}
	return v.GetValue()
}

func address(path string, a *corev3.Address) (netip.AddrPort, error) {
	s := a.GetSocketAddress()
	if s == nil {
		return netip.AddrPort{}, fmt.Errorf("%s: no socket address", path)
	}
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s.socket_address.address: %q is not an IP address", path, s.GetAddress())
	}
	port := s.GetPortValue()
	if port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("%s.socket_address.port_value: %d is out of range", path, port)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

// unpack decodes a typed_config.
func unpack(path string, any *anypb.Any) (proto.Message, error) {
	if any == nil {
		return nil, fmt.Errorf("%s: missing", path)
	}
	m, err := any.UnmarshalNew()
	if err != nil {
		return nil, unsupported(path, "message "+any.GetTypeUrl())
	}
	if v, ok := m.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, fmt.Errorf("%s: invalid: %w", path, err)
		}
	}
	return m, nil
}

// text returns the string fields of s.
func text(s *structpb.Struct) map[string]string {
	if len(s.GetFields()) == 0 {
		return nil
	}
	out := make(map[string]string, len(s.GetFields()))
	for k, v := range s.GetFields() {
		switch v.GetKind().(type) {
		case *structpb.Value_NumberValue:
			out[k] = fmt.Sprint(v.GetNumberValue())
		default:
			out[k] = v.GetStringValue()
		}
	}
	return out
}

func bytesOf(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return ""
	}
	return string(b)
}
