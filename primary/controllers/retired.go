package controllers

import (
	"context"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/controllers/allot"
)

// Keys of the ConfigMap api.EntryRetiredName: a line "WHAT SECONDS KEY OWNER" for
// each, where WHAT is a port or an address, SECONDS the Unix time since when it
// rests, KEY who gets it back at once, and OWNER the cluster whose share it is of;
// OWNER, or both, may be missing, and "-" is an empty one. Where that is too much,
// see linesTogether.
const (
	retiredEntryKey     = "entry-ports"
	retiredSyntheticKey = "synthetic-addresses"
)

// maxRetiredBytes bounds each of the two lists, so that the object stays within
// the API server's mebibyte. Over it, they are kept without their keys.
const maxRetiredBytes = 480 << 10

// retired is what rests: ports, and offsets of addresses.
type retired struct{ Entry, Synthetic []allot.Rested }

// unnoted says why one of the lists, or both, could not be noted, while the other
// was: nil where it was.
type unnoted struct{ Entry, Synthetic error }

// ledger keeps what rests beyond one term.
type ledger interface {
	// write notes r, and returns what somebody else has noted there since. A list
	// that is too long stays as it was there, and does not keep the other from it.
	write(ctx context.Context, r retired) (others retired, tooLong unnoted, err error)
}

// configMapLedger is the ledger in the local cluster. It is its only writer: what
// another has written since is kept as well.
type configMapLedger struct {
	local     *Local
	namespace string
	range4    range4
	have      *corev1.ConfigMap // as last read or written; nil: absent
}

// read returns what rests, from the API server and not from a cache.
func (l *configMapLedger) read(ctx context.Context) (retired, error) {
	l.have = nil
	var have corev1.ConfigMap
	found, err := present(l.local.Direct.Get(ctx, objectKey{Namespace: l.namespace, Name: api.EntryRetiredName}, &have))
	if err != nil || !found {
		return retired{}, err
	}
	l.have = &have
	return retired{parseRested(have.Data[retiredEntryKey], portWords()), parseRested(have.Data[retiredSyntheticKey], l.range4.words())}, nil
}

func (l *configMapLedger) write(ctx context.Context, r retired) (retired, unnoted, error) {
	var found retired
	for try := 0; ; try++ {
		tooLong, err := l.put(ctx, r)
		if try == 5 || !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return found, tooLong, err
		}
		if found, err = l.read(ctx); err != nil {
			return retired{}, unnoted{}, err
		}
		r.Entry, r.Synthetic = joinRested(r.Entry, found.Entry), joinRested(r.Synthetic, found.Synthetic)
	}
}

func (l *configMapLedger) put(ctx context.Context, r retired) (tooLong unnoted, err error) {
	out := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: api.EntryRetiredName, Labels: map[string]string{api.LabelManagedBy: api.ManagedBy}}}
	out.Data = map[string]string{}
	if l.have != nil {
		maps.Copy(out.Data, l.have.Data)
	}
	note := func(key string, all []allot.Rested, w words) error {
		text, err := formatRested(all, w)
		if err == nil {
			out.Data[key] = text
		}
		return err
	}
	tooLong.Entry, tooLong.Synthetic = note(retiredEntryKey, r.Entry, portWords()), note(retiredSyntheticKey, r.Synthetic, l.range4.words())
	if l.have == nil {
		err = l.local.Create(ctx, out)
	} else {
		out.ResourceVersion = l.have.ResourceVersion
		err = l.local.Update(ctx, out, client.FieldOwner(FieldOwner))
	}
	if err == nil {
		l.have = out
	}
	return tooLong, err
}

// joinRested adds to ours what only theirs has.
func joinRested(ours, theirs []allot.Rested) []allot.Rested {
	known := map[int]bool{}
	for _, r := range ours {
		known[r.Number] = true
	}
	out := slices.Clone(ours)
	for _, r := range theirs {
		if !known[r.Number] {
			out = append(out, r)
		}
	}
	return out
}

// words turn numbers into text and back.
type words struct {
	text  func(int) string
	parse func(string) (int, bool)
	last  int // the greatest number
}

func portWords() words {
	return words{strconv.Itoa, func(text string) (int, bool) {
		n, err := strconv.ParseUint(text, 10, 16)
		return int(n), err == nil && n > 0
	}, 65535}
}
