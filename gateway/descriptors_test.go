package gateway

import "testing"

// TestDescriptors: whatever the limit is, the shares are within it, and none is nothing.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	for _, files := range []uint64{64, 128, 256, 1024, 4096, 20000, 65536, 1 << 20, 1 << 62} {
		for _, configured := range []int{1, 100, 20000, 1_000_000} {
			d := shareDescriptors(files, configured)
			if d.clients < 1 || d.internal < 1 || d.branches < 1 || d.pipes < 1 ||
				d.upstreams < 1 || d.clients > configured {
				t.Errorf("%d files, %d connections: %+v", files, configured, d)
			}
			sum := uint64(d.clients+2*d.internal+d.branches+2*d.pipes) + uint64(d.upstreams)
			if kept := files - min(sum, files); kept < min(descriptorsKept, files/4) {
				t.Errorf("%d files, %d connections: %+v leaves %d", files, configured, d, kept)
			}
			if int64(d.clients) > d.upstreams {
				t.Errorf("%d files: %d clients and %d connections to services", files, d.clients, d.upstreams)
			}
		}
	}
	if d := shareDescriptors(1024, 20000); d.clients < 300 || d.upstreams < 300 {
		t.Errorf("1024 files: %+v", d)
	}
}
