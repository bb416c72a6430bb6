module github.com/sluice-gateway/sluice/sagaclient/participant

go 1.25.0
