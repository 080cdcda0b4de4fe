package corefile

import "strings"

// Restore takes back what Edit did to original, and leaves what has been changed in
// current since. A word that original had already stays. An error is an UnusualError.
func Restore(current, original, zone string) (string, error) {
	edited, added, err := edit(original, zone)
	if err != nil {
		return "", err
	}
	if edited == current {
		return original, nil
	}
	return remove(current, zone, added)
}

// remove takes the added words out of src, as far as they are there.
func remove(src, zone string, added added) (string, error) {
	if !added.any() {
		return src, nil
	}
	p, err := find(src, zone)
	if err != nil {
		return "", err
	}
	r := remover{src: src, zone: zone}
	if i := index(p.kubernetes.args, zone); added.zone && i >= 0 && len(p.kubernetes.args) > 1 {
		r.cut(p.kubernetes.args[i])
	}
	if options := p.kubernetes.all("multicluster"); len(options) > 0 {
		r.word(p.kubernetes, options[0], 0, added.option, added.kubernetes)
	}
	if d, ok := disabled(p.cache, "success"); ok {
		r.word(*p.cache, d, 1, added.success, false)
	}
	if d, ok := disabled(p.cache, "denial"); ok {
		r.word(*p.cache, d, 1, added.denial, added.caches)
	}
	return apply(src, r.splices), nil
}

type remover struct {
	src, zone string
	splices   []splice
}

// cut takes a word out, with the spaces before it.
func (r *remover) cut(t token) {
	before := strings.TrimRight(r.src[:t.start], " \t")
	r.splices = append(r.splices, splice{len(before), t.end, ""})
}

// word takes the zone out of the line d of parent; with the line where that came with it
// and nothing else is left, and with the block likewise. The zones begin at from.
func (r *remover) word(parent, d directive, from int, w word, blockToo bool) {
	if len(d.args) < from {
		return
	}
	zones := d.args[from:]
	i := index(zones, r.zone)
	switch {
	case i < 0 || w == word{}:
	case len(zones) > 1:
		r.cut(zones[i])
	case !w.line:
		// The other zones of the line are gone since. Without any it would mean all of them.
	case blockToo && len(parent.directives) == 1 && !strings.Contains(r.src[parent.open.end:parent.close.start], "#"):
		r.splices = append(r.splices, splice{parent.last().end, parent.close.end, ""})
	default:
		start := lineStart(r.src, d.name.start)
		end := min(lineEnd(r.src, d.last().end)+1, len(r.src))
		r.splices = append(r.splices, splice{start, end, ""})
	}
}
