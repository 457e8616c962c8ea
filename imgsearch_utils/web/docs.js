// The page of the interface for programs; its parts come with the installation, nothing is fetched from elsewhere.
SwaggerUIBundle({ url: "/api/openapi.json", dom_id: "#swagger-ui", validatorUrl: null });
