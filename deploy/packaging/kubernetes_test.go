package packaging

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// kubernetesVersion is the oldest that the manifests are for.
const kubernetesVersion = "1.30.0"

// manifests are the objects of a file that these tests look into.
type manifests struct {
	configs     []core.ConfigMap
	services    []core.Service
	deployments []apps.Deployment
	budgets     []policy.PodDisruptionBudget
	policies    []networking.NetworkPolicy
}

// decode reads the objects of a file strictly: a field that Kubernetes does not know is a mistake.
func decode(t *testing.T, name, text string) (m manifests) {
	t.Helper()
	for _, document := range strings.Split(text, "\n---") {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch kind.Kind {
		case "ConfigMap":
			m.configs = append(m.configs, strict[core.ConfigMap](t, name, document))
		case "Service":
			m.services = append(m.services, strict[core.Service](t, name, document))
		case "Deployment":
			m.deployments = append(m.deployments, strict[apps.Deployment](t, name, document))
		case "PodDisruptionBudget":
			m.budgets = append(m.budgets, strict[policy.PodDisruptionBudget](t, name, document))
		case "NetworkPolicy":
			m.policies = append(m.policies, strict[networking.NetworkPolicy](t, name, document))
		}
	}
	return m
}

func strict[T any](t *testing.T, name, document string) (object T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return object
}

// gatewayConfig is what of a configuration has to fit its manifests.
type gatewayConfig struct {
	Listen struct {
		HTTP       string        `json:"http"`
		DrainDelay meta.Duration `json:"drainDelay"`
	} `json:"listen"`
	Admin struct{ Address, Probes string } `json:"admin"`
}

func TestManifests(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(root + "/deploy/kubernetes/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	checkSchemas(t, files...)
	for _, file := range files {
		name := "deploy/kubernetes/" + filepath.Base(file)
		judge(t, name, decode(t, name, read(t, name)))
	}
}

// checkSchemas holds files against the schemas of Kubernetes.
func checkSchemas(t *testing.T, files ...string) {
	t.Helper()
	args := append([]string{"--strict", "--quiet", "-k", kubernetesVersion}, files...)
	run(t, tool(t, "kubernetes-validate"), args...)
}

// judge holds manifests against each other and against the configuration that they carry.
func judge(t *testing.T, name string, m manifests) {
	t.Helper()
	var config gatewayConfig
	for _, c := range m.configs {
		text := c.Data["sluice.yaml"]
		validate(t, name, text)
		if err := yaml.Unmarshal([]byte(text), &config); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, d := range m.deployments {
		judgePods(t, name, &d, &config)
		labels := d.Spec.Template.Labels
		for _, s := range m.services {
			if !covers(s.Spec.Selector, labels) {
				t.Errorf("%s: the Service %s selects no pods", name, s.Name)
			}
			for _, p := range s.Spec.Ports {
				if !hasPort(&d, p.TargetPort) {
					t.Errorf("%s: the Service %s leads to the port %v, which no pod has", name, s.Name, p.TargetPort)
				}
			}
		}
		judgeBudget(t, name, &d, m.budgets)
		judgePolicy(t, name, &d, m.policies)
	}
}

func judgePods(t *testing.T, name string, d *apps.Deployment, config *gatewayConfig) {
	t.Helper()
	pod := &d.Spec.Template.Spec
	if !covers(d.Spec.Selector.MatchLabels, d.Spec.Template.Labels) {
		t.Errorf("%s: the Deployment %s does not select its own pods", name, d.Name)
	}
	drains := int64(config.Listen.DrainDelay.Seconds()) + 30
	for _, c := range gateways(pod) {
		if pod.TerminationGracePeriodSeconds == nil || *pod.TerminationGracePeriodSeconds < drains+10 {
			t.Errorf("%s: %s drains for %d s, and is killed before", name, d.Name, drains)
		}
		for probe, p := range map[string]*core.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != probe ||
				p.HTTPGet.Port != intstr.FromString("probes") {
				t.Errorf("%s: %s has no probe of %s at the address of the probes", name, d.Name, probe)
			}
		}
		for port, address := range map[string]string{
			"http": config.Listen.HTTP, "probes": config.Admin.Probes, "admin": config.Admin.Address,
		} {
			for _, p := range c.Ports {
				if p.Name == port && !strings.HasSuffix(address, ":"+strconv.Itoa(int(p.ContainerPort))) {
					t.Errorf("%s: the port %s of %s is %d, and is %s in the configuration", name, port, d.Name,
						p.ContainerPort, address)
				}
			}
		}
	}
	for _, c := range append(gateways(pod), coordinators(pod)...) {
		s := c.SecurityContext
		if s == nil || !isTrue(s.ReadOnlyRootFilesystem) || s.AllowPrivilegeEscalation == nil ||
			*s.AllowPrivilegeEscalation || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 ||
			!isTrue(s.RunAsNonRoot) && !isTrue(pod.SecurityContext.RunAsNonRoot) {
			t.Errorf("%s: the container %s of %s may do more than it needs", name, c.Name, d.Name)
		}
	}
}

// gateways returns the containers of a pod that are gateways, sidecars too.
func gateways(pod *core.PodSpec) []core.Container { return named(pod, "sluice") }

func coordinators(pod *core.PodSpec) []core.Container { return named(pod, "sluice-dtm") }

func named(pod *core.PodSpec, name string) (list []core.Container) {
	for _, c := range append(append([]core.Container(nil), pod.InitContainers...), pod.Containers...) {
		if c.Name == name {
			list = append(list, c)
		}
	}
	return list
}

func judgeBudget(t *testing.T, name string, d *apps.Deployment, budgets []policy.PodDisruptionBudget) {
	t.Helper()
	if *d.Spec.Replicas < 2 {
		if len(budgets) > 0 {
			t.Errorf("%s: a budget for one pod keeps its node from being drained", name)
		}
		return
	}
	if len(budgets) != 1 || !covers(budgets[0].Spec.Selector.MatchLabels, d.Spec.Template.Labels) {
		t.Errorf("%s: %s has no budget of disruptions", name, d.Name)
	}
}

// judgePolicy: no port but that of clients is open to everybody.
func judgePolicy(t *testing.T, name string, d *apps.Deployment, policies []networking.NetworkPolicy) {
	t.Helper()
	if len(policies) != 1 || !covers(policies[0].Spec.PodSelector.MatchLabels, d.Spec.Template.Labels) {
		t.Errorf("%s: %s has no NetworkPolicy", name, d.Name)
		return
	}
	for _, rule := range policies[0].Spec.Ingress {
		for _, p := range rule.Ports {
			if p.Port == nil || !hasPort(d, *p.Port) {
				t.Errorf("%s: the NetworkPolicy names the port %v, which the pods do not have", name, p.Port)
			}
			if len(rule.From) == 0 && *p.Port != intstr.FromString("http") {
				t.Errorf("%s: everybody reaches the port %v", name, p.Port)
			}
		}
		if len(rule.Ports) == 0 {
			t.Errorf("%s: a rule opens every port", name)
		}
	}
}

func covers(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func hasPort(d *apps.Deployment, port intstr.IntOrString) bool {
	pod := &d.Spec.Template.Spec
	for _, c := range append(append([]core.Container(nil), pod.InitContainers...), pod.Containers...) {
		for _, p := range c.Ports {
			if port == intstr.FromString(p.Name) || port == intstr.FromInt32(p.ContainerPort) {
				return true
			}
		}
	}
	return false
}

func isTrue(b *bool) bool { return b != nil && *b }
