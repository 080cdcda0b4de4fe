package ingest

import (
	"testing"
	"time"
)

// Who of two keeps a number is whose slice is the oldest, as for the controllers.
func TestOldestSliceKeepsANumber(t *testing.T) {
	o := owners[uint16]{}
	var ch Changes
	a, b := Name{"shop", "a"}, Name{"shop", "b"}
	young := &Slice{Name: Name{"shop", "a-1"}, Since: time.Unix(20, 0)}
	old := &Slice{Name: Name{"shop", "b-1"}, Since: time.Unix(10, 0)}
	o.add(20001, young, a, 1, &ch)
	o.add(20001, old, b, 1, &ch)
	if by, taken := o.elsewhere(20001, a); !taken || by != b {
		t.Errorf("a: %v %v", by, taken)
	}
	if _, taken := o.elsewhere(20001, b); taken {
		t.Error("b lost its number to a younger slice")
	}
	if _, marked := ch.Services[a]; !marked {
		t.Error("a is not made anew")
	}
	o.add(20001, old, b, -1, &ch)
	if _, taken := o.elsewhere(20001, a); taken {
		t.Error("nobody else has it")
	}
}
