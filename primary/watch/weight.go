package watch

import "github.com/isthmus-mesh/isthmus/federation/ingest"

// defaultMaxBytes bounds what is held of one cluster, as weigh counts.
const defaultMaxBytes = 512 << 20

// What things weigh in bytes beside the text that others chose.
const (
	weighObject = 300
	weighItem   = 100 // of a list in an object
)

// weigh says about how many bytes o keeps in memory.
func weigh(o ingest.Object) int {
	switch o := o.(type) {
	case *ingest.Export:
		return weighObject + weighText(o.Labels) + weighText(o.Annotations) + weighItem*len(o.To)
	case *ingest.Pod:
		return weighObject + weighText(o.Labels)
	case *ingest.Slice:
		return weighObject + weighItem*(len(o.Ports)+len(o.Others)+len(o.Endpoints))
	case *ingest.Service:
		return weighObject + weighItem*(len(o.Ports)+len(o.Balancers)) + len(o.ByHand)
	case nil:
		return 0
	}
	return weighObject
}

func weighText(m map[string]string) (n int) {
	for k, v := range m {
		n += weighItem + len(k) + len(v)
	}
	return n
}
