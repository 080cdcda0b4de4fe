package intercept

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	reg       = 1    // the register that every expression uses
	ctDNAT    = 0x20 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
	tcpReset  = 1    // NFT_REJECT_TCP_RST
	nameBytes = 16   // IFNAMSIZ
)

func join(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

func done() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg}, &expr.Cmp{Op: op, Register: reg, Data: data}}
}

func tcp() []expr.Any    { return meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_TCP}) }
func notTCP() []expr.Any { return meta(expr.MetaKeyL4PROTO, expr.CmpOpNeq, []byte{unix.IPPROTO_TCP}) }

func mark(m uint32) []expr.Any {
	return meta(expr.MetaKeyMARK, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(m))
}

func uid(id uint32) []expr.Any {
	return meta(expr.MetaKeySKUID, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(id))
}

func gid(id uint32) []expr.Any {
	return meta(expr.MetaKeySKGID, expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(id))
}

func toDevice(device string) []expr.Any {
	return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, name(device))
}

func fromDevice(device string) []expr.Any {
	return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, name(device))
}

func toLoopbackDevice() []expr.Any   { return toDevice("lo") }
func fromLoopbackDevice() []expr.Any { return fromDevice("lo") }

func name(s string) []byte { return append([]byte(s), make([]byte, nameBytes-len(s))...) }

// port matches the destination port of TCP.
func port(p uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.BigEndian.PutUint16(p)},
	}
}

// ports matches the destination ports of TCP from first to last.
func ports(first, last uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: reg, FromData: binaryutil.BigEndian.PutUint16(first), ToData: binaryutil.BigEndian.PutUint16(last)},
	}
}

func to(p netip.Prefix) []expr.Any    { return destination(p, expr.CmpOpEq) }
func notTo(p netip.Prefix) []expr.Any { return destination(p, expr.CmpOpNeq) }

// destination compares the destination address with p; it matches packets of
// p's family only.
func destination(p netip.Prefix, op expr.CmpOp) []expr.Any {
	p = p.Masked()
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	address := p.Addr().AsSlice()
	size := uint32(len(address))
	return join(meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{family}), []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: size, Mask: mask(p.Bits(), len(address)), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: reg, Data: address},
	})
}

// mask returns size bytes of which the first n bits are set.
func mask(n, size int) []byte {
	m := make([]byte, size)
	for i := range n {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

func redirect(p uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: reg, Data: binaryutil.BigEndian.PutUint16(p)},
		&expr.Redir{RegisterProtoMin: reg},
	}
}

// notRedirected matches connections whose destination was not rewritten.
func notRedirected() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ctDNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: make([]byte, 4)},
	}
}

func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: tcpReset}} }
