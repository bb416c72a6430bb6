package dtmembedded

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func encoded(r *record) []byte {
	w := write{next: r}
	w.json, _ = json.Marshal(&r.global)
	if r.kv != nil {
		w.json, _ = json.Marshal(r.kv)
	}
	return w.AppendBody(nil)
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	now := time.Now().Truncate(0)
	g, branches := saga("gid00001", now)
	branches[1].FinishTime, branches[2].RollbackTime = &now, &now
	branches[3].BinData = []byte("other")
	g.BranchHeaders = map[string]string{"a": "b"}
	r := newRecord(g, branches)
	back, err := decodeRecord(kindTransaction, encoded(r))
	if err != nil {
		t.Fatal(err)
	}
	one, _ := json.Marshal([]any{r.global, r.branches})
	two, _ := json.Marshal([]any{back.global, back.branches})
	if string(one) != string(two) {
		t.Errorf("written\n%s\nread\n%s", one, two)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	g, branches := saga("gid00001", time.Unix(1, 0))
	f.Add(encoded(newRecord(g, branches)))
	f.Add([]byte{bodyVersion, 2, '{', '}', 200})
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRecord(kindTransaction, body)
		if err != nil {
			return
		}
		back, err := decodeRecord(kindTransaction, encoded(r))
		if err != nil || !reflect.DeepEqual(r.branches, back.branches) {
			t.Errorf("%v, then %v, %v", r.branches, back, err)
		}
	})
}
