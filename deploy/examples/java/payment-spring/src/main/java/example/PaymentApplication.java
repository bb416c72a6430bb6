package example;

import java.net.InetAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.sql.SQLException;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.web.server.WebServerFactoryCustomizer;
import org.springframework.boot.web.server.servlet.ConfigurableServletWebServerFactory;
import org.springframework.cloud.client.loadbalancer.LoadBalanced;
import org.springframework.context.annotation.Bean;
import org.springframework.web.client.RestClient;

/** A Spring Cloud service that the gateway calls as a branch. It asks the card service, which it finds by name. */
@SpringBootApplication
public class PaymentApplication {
    public static void main(String[] args) {
        SpringApplication.run(PaymentApplication.class, args);
    }

    @Bean
    Barrier barrier(@Value("${payment.file}") String file) throws SQLException {
        return new Barrier(file,
                "CREATE TABLE IF NOT EXISTS payment (id TEXT PRIMARY KEY, user TEXT NOT NULL, amount INTEGER NOT NULL)");
    }

    /** Serves at the address that listen names. */
    @Bean
    WebServerFactoryCustomizer<ConfigurableServletWebServerFactory> address(@Value("${listen}") String listen)
            throws UnknownHostException {
        URI uri = URI.create("http://" + listen);
        InetAddress address = InetAddress.getByName(uri.getHost());
        return server -> {
            server.setPort(uri.getPort());
            server.setAddress(address);
        };
    }

    @Bean
    @LoadBalanced
    RestClient.Builder restClient() {
        return RestClient.builder();
    }
}
