package plan

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// A process has ended when it is a zombie, when its number is free, or when another has it.
func TestStateEnded(t *testing.T) {
	start, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if (State{PID: os.Getpid(), Start: start}).Ended() {
		t.Error("this process has ended")
	}
	if !(State{PID: os.Getpid(), Start: start + "0"}).Ended() {
		t.Error("another process with the number has not ended")
	}
	cmd := exec.Command("sleep", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	child := State{PID: cmd.Process.Pid}
	if child.Start, err = StartTime(child.PID); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); !child.Ended(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a zombie has not ended")
		}
	}
	_ = cmd.Wait()
	if !child.Ended() {
		t.Error("a process that is gone has not ended")
	}
}
