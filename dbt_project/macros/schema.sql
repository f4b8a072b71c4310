{#- A model lies in the schema of its layer, whoever's model it is; dbt's default would put `main_` before it. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layers = ["staging", "intermediate", "marts"] | select("in", node.fqn) | list -%}
    {{- custom_schema_name or (layers | first) or target.schema -}}
{%- endmacro %}
